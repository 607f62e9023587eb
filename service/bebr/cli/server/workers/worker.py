"""A worker process. The supervisor starts it, and is told when it is ready.

The primary opens its Unix socket once it is ready, so that what others pass on waits until then. Other workers take
connections only once they can answer.
"""

import asyncio
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from bebr.cli.server.serving import SWITCH_SECONDS, Watched, server_config
from bebr.cli.server.starting import BACKLOG, SHUTDOWN_SECONDS, configure_logs
from bebr.cli.server.workers.control import Order, Start, Word, fields_of, line, read_start
from bebr.engine import Engine
from bebr.errors import BebrError, NotReady, StoreUnavailable
from bebr.server import FastAPI, Primary, Team
from bebr.server.connections.connection import Connection
from bebr.server.metrics import HttpMetrics
from bebr.server.routes.operations import check_ready
from bebr.server.workers.accepting import Acceptor
from bebr.server.workers.inside import Inside, inside_gate
from bebr.shards.memory import release_free_memory

log = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
POLL_SECONDS = 0.02


class WorkerServer(uvicorn.Server):
    """The server of a worker."""

    def __init__(
        self,
        start: Start,
        control: socket.socket,
        listener: socket.socket,
        app: Watched,
        state: Any,
    ) -> None:
        """state: of the app that is watched."""
        super().__init__(server_config(app, state.gate))
        self._start = start
        self._control = control
        self._listener = listener
        self._engine: Engine = state.services.engine
        self._primary: Primary | None = state.primary
        self._team: Team = state.team
        self._metrics: HttpMetrics = state.metrics
        self._teller: asyncio.AbstractServer | None = None
        self._inside_config = server_config(Inside(app), inside_gate(state.gate))
        self._inside_state = ServerState()
        self._inside: asyncio.AbstractServer | None = None
        self._linger_seconds, self._finish_seconds = 0.0, float(SHUTDOWN_SECONDS)
        self._running: list[asyncio.Task[None]] = []
        self._doing: set[asyncio.Task[None]] = set()
        """What the supervisor has ordered."""
        self.cannot_go_on = False
        self._acceptor = Acceptor(listener, partial(self._protocol, self.config, self.server_state))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Only the supervisor, and whoever means this process, is to stop it."""
        yield

    def stop(self) -> None:
        self.should_exit = True

    def _stop_where_failed(self, work: "asyncio.Task[None]") -> None:
        """Such a worker would be of no use, and nobody would know."""
        if not work.cancelled() and (error := work.exception()) is not None:
            log.error("a worker that cannot go on ends", exc_info=error)
            self.cannot_go_on = True
            self.stop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stop)
        self._teller = await self._team.say_metrics(lambda: self._metrics.collected().render_told())
        if self._start.answers_before_ready:
            self._acceptor.start()
        reader, writer = await asyncio.open_unix_connection(sock=self._control)
        works = self._obey(reader, writer), self._beat(writer), self._become_ready(writer)
        self._running = [asyncio.create_task(work) for work in works]
        for task in self._running:
            task.add_done_callback(self._stop_where_failed)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._drain(self._linger_seconds, self._finish_seconds)
        if self._inside is not None:
            self._inside.close()
        await _end_connections(self._inside_state, SHUTDOWN_SECONDS)
        if self._teller is not None:
            self._team.ended.note(self._team.process, self._metrics.collected().metrics)
            self._teller.close()
            self._team.metrics_socket.unlink(missing_ok=True)
        await super().shutdown()
        for work in (*self._running, *self._doing):
            work.cancel()

    def _protocol(self, config: uvicorn.Config, state: ServerState) -> asyncio.Protocol:
        return config.http_protocol_class(config=config, server_state=state, app_state=self.lifespan.state)  # type: ignore[call-arg]

    async def _drain(self, linger_seconds: float, finish_seconds: float) -> None:
        """Connections that rest are ended after their next answer, or this time; no request is lost between the two."""
        await self._acceptor.close()
        for connection in list(self.server_state.connections):
            if linger_seconds and isinstance(connection, Connection):
                connection.drain()
        await _none_left(self.server_state, linger_seconds)
        await _end_connections(self.server_state, finish_seconds)

    async def _become_ready(self, writer: asyncio.StreamWriter) -> None:
        said = ""
        while True:
            try:
                await check_ready(self._engine)
                break
            except (NotReady, StoreUnavailable) as error:
                reason = ", ".join(f"{name} {value}" for name, value in error.fields.items() if value)
                if reason != said:
                    _say(writer, Word.WAITING, reason=reason)
                    said = reason
                await asyncio.sleep(POLL_SECONDS)
        if self._team.is_primary:
            loop, make = asyncio.get_running_loop(), partial(self._protocol, self._inside_config, self._inside_state)
            self._inside_config.load()
            self._inside = await loop.create_unix_server(make, self._team.primary_socket, backlog=BACKLOG)
        self._acceptor.start()
        gc.collect()
        gc.freeze()
        release_free_memory()
        _say(writer, Word.READY)

    async def _beat(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            _say(writer, Word.BEAT)

    async def _obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the supervisor has died, after which this one ends as well. None of its orders waits for another."""
        with suppress(ConnectionError):
            while said := await reader.readline():
                doing = asyncio.create_task(self._do(fields_of(said), writer))
                self._doing.add(doing)
                doing.add_done_callback(self._doing.discard)
                doing.add_done_callback(self._stop_where_failed)
        self._expect_no_other_primary()
        self.stop()

    def _expect_no_other_primary(self) -> None:
        if self._primary is not None:
            self._primary.expect_no_other()

    async def _do(self, order: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        word = Order(order["word"])
        if word is Order.DRAIN:
            await self._drain(order["linger_seconds"], order["finish_seconds"])
            _say(writer, Word.DRAINED)
        elif word is Order.HOLD and self._primary is not None:
            _say(writer, Word.HELD, held=await self._primary.hold(order["seconds"], order["gives_up"]))
        elif word is Order.RELEASE and self._primary is not None:
            self._primary.release()
        elif word is Order.STOP:
            self._linger_seconds, self._finish_seconds = order["linger_seconds"], order["finish_seconds"]
            if order["ends_service"]:
                self._expect_no_other_primary()
            self.stop()


def _say(writer: asyncio.StreamWriter, word: Word, **fields: Any) -> None:
    """Where the supervisor has died that is nobody's to hear."""
    if not writer.is_closing():
        writer.write(line(word, **fields))


async def _end_connections(state: ServerState, seconds: float) -> None:
    """Return when requests that are under way have their answers."""
    for connection in list(state.connections):
        connection.shutdown()
    await _none_left(state, seconds)


async def _none_left(state: ServerState, seconds: float) -> None:
    """Return when there are no connections any more, or after this time."""
    until = time.monotonic() + seconds
    while True:
        if not state.connections or time.monotonic() > until:
            return
        await asyncio.sleep(POLL_SECONDS)


def main(control_descriptor: int, listener_descriptor: int) -> None:
    """Serve until the supervisor says stop, or has died."""
    control = socket.socket(fileno=control_descriptor)
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    with control, suppress(EOFError, ConnectionError):
        start = read_start(control)
        configure_logs(start.settings.log_level, start.settings.log_format, start.number)
        sys.setswitchinterval(SWITCH_SECONDS)
        with socket.socket(fileno=listener_descriptor) as listener:
            listener.setblocking(False)
            sys.exit(_serve(start, control, listener))


def _serve(start: Start, control: socket.socket, listener: socket.socket) -> int:
    app: Watched | None = None
    try:
        built = _built(start)
        control.sendall(line(Word.PREPARED))
        if _next_order(control) is not Order.GO:
            return 0
        app = Watched(built)
        server = WorkerServer(start, control, listener, app, built.state)
        server.run()
        if server.cannot_go_on:
            return 1  # the log says why
        failure = app.failure
    except BebrError as error:
        failure = error
    except SystemExit:  # uvicorn raises it where the app could not start
        failure = app.failure if app is not None else None
    if failure is None:
        return 0
    if isinstance(failure, BebrError):
        control.setblocking(True)
        control.sendall(line(Word.FAILED, error=type(failure).__name__, detail=failure.detail))
        return 1
    raise failure


def _built(start: Start) -> FastAPI:
    from bebr.bootstrap import build_app

    app = build_app(start.settings, Team(start.folder, start.number, start.settings.worker_count))
    if not start.number:  # the others pass on whatever needs it
        app.openapi()  # kept; the first request that needs it would hold up all others
    return app


def _next_order(control: socket.socket) -> Order | None:
    """None: the supervisor has died."""
    said = b""
    while not said.endswith(b"\n"):
        more = control.recv(1)
        if not more:
            return None
        said += more
    return Order(fields_of(said)["word"])
