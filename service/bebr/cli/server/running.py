"""A running service: its socket, its server thread, and its shutdown on Ctrl-C or SIGTERM."""

import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

import uvicorn

from bebr.cli.options import local_url
from bebr.cli.server.serving import SWITCH_SECONDS, Watched, server_config
from bebr.cli.server.starting import Waiting, listen, use_folder
from bebr.client import Client
from bebr.config import Settings
from bebr.errors import NotReady, Unavailable

POLL_SECONDS = 0.02


class Service:
    """A service with its own server thread, so that the main thread can wait for signals and do other work.

    The constructor binds the address; the service answers once `start` returns. Raises InvalidOption when the address
    cannot be bound.
    """

    def __init__(self, settings: Settings) -> None:
        from bebr.bootstrap import build_app

        use_folder(settings)
        self._socket = listen(settings.host, settings.port)
        self.url = local_url(*self._socket.getsockname()[:2])
        self._key = next(iter((*settings.read_only_api_keys, *settings.api_keys)), None)
        app = build_app(settings)
        app.openapi()  # kept; the first request that needs it would hold up all others
        self._app = Watched(app)
        self._started = threading.Event()
        self._ended = threading.Event()
        self._ended.set()
        self._server = _Server(
            server_config(self._app, app.state.gate),
            self._started,
        )
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    def start(self, waiting: Callable[[str], None] = lambda reason: None) -> None:
        """Return when the service is ready. Raises what startup raised. `waiting` is told the reason of a delay."""
        self._ended.clear()
        self._thread.start()
        while not self._started.wait(POLL_SECONDS):
            if self._ended.is_set():
                self._socket.close()
                raise self._app.failure or Unavailable("the service stopped during startup; see its log")
        with Client(self.url, api_key=self._key, retries=0) as client:
            while not _is_ready(client, waiting):
                if self._ended.is_set():
                    raise self._app.failure or Unavailable("the service stopped before it was ready; see its log")
                time.sleep(POLL_SECONDS)
        gc.collect()
        gc.freeze()  # or every later collection, which stops all, would look through what lives as long as the service

    def stop(self) -> None:
        """Ask the service to stop once its running requests have finished."""
        self._server.should_exit = True

    def join(self) -> None:
        """Wait until the service has stopped. Raises Unavailable when `stop` was not called."""
        # Not Thread.join: when a signal handler raises inside it, Python 3.11 treats the thread as finished.
        self._ended.wait()
        self._socket.close()
        if not self._server.should_exit:
            raise Unavailable("the service stopped unexpectedly; see its log")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
        self.join()

    def _run(self) -> None:
        try:
            sys.setswitchinterval(SWITCH_SECONDS)
            self._server.run(sockets=[self._socket])
        except SystemExit:  # uvicorn raises it when the application could not start
            pass
        finally:
            self._ended.set()


class _Server(uvicorn.Server):
    """Reports when it is up, and leaves signals to the main thread."""

    def __init__(self, config: uvicorn.Config, started: threading.Event) -> None:
        super().__init__(config)
        self._up = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._up.set()


class Stopped(Exception):
    """Ctrl-C or SIGTERM, in the main thread."""


class Signals:
    """What the first signal does, besides raising Stopped: where the interpreter is in a finalizer just then, that
    is swallowed."""

    def __init__(self) -> None:
        self.seen = False
        self._stop: Callable[[], None] = _nothing

    def on_stop(self, stop: Callable[[], None]) -> None:
        """Call this, too. Raises Stopped where a signal came already."""
        self._stop = stop
        if self.seen:
            raise Stopped

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.seen:
            os._exit(128 + number)
        self.seen = True
        self._stop()
        raise Stopped


def _nothing() -> None:
    return


@contextmanager
def stop_signals() -> Iterator[Signals]:
    """Inside, the first SIGINT or SIGTERM raises Stopped, so that the service can shut down cleanly. The second exits
    at once, which loses no acknowledged write."""
    signals = Signals()
    before = {number: signal.signal(number, signals.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve_alone(settings: Settings, when_ready: Callable[[str], None]) -> None:
    """Serve with this process until a signal. when_ready: told the address."""
    with stop_signals() as signals:
        service = Service(settings)
        try:
            signals.on_stop(service.stop)
            service.start(Waiting())
            when_ready(service.url)
            service.join()
        except Stopped:
            print("\nstopping; press Ctrl-C again to stop at once", file=sys.stderr)
        except Unavailable:
            if not signals.seen:  # else it is what was asked for
                raise
        finally:
            service.stop()
            service.join()


def _is_ready(client: Client, waiting: Callable[[str], None]) -> bool:
    try:
        client.check_ready()
    except NotReady as error:
        waiting(", ".join(f"{name} {value}" for name, value in error.fields.items() if value))
        return False
    return True
