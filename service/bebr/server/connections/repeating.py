"""A connection whose requests repeat the head of the one before: they are neither parsed nor led through the app.

See `repeats` for what is done for each of them.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from bebr.server.connections.connection import Connection
from bebr.server.connections.exchange import Exchange
from bebr.server.connections.repeats import FOUND, Repeat, Repeated, repeat_of
from bebr.server.middleware.callers import ARRIVED


class Repeating(Connection):
    """_whole: what came at rest, while it is answered. _repeat: how the request before can be repeated."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._whole = b""
        self._repeat: Repeat | None = None

    def drain(self) -> None:
        super().drain()
        self._repeat = None

    def _answer_repeat(self, data: bytes) -> bool:
        """Whether what came between two requests was one that is answered as the one before."""
        repeat = self._repeat
        if repeat is None or (body := repeat.body_of(data)) is None:
            return False
        if (request := repeat.route.read(body)) is None:
            return False
        self._whole = b""
        if not self._receive(repeat.scope, keep_alive=True):
            self._wait_for_next()
            return True
        repeated = Repeated(self, repeat, body, request, self._heard)
        self._current = self.cycle = repeated  # type: ignore[assignment]
        if self._ticket is not None:
            self._ticket.enter()
        self._put(partial(self._begin_repeat, repeated, self._gate.starts.is_calm))
        return True

    def _begin_repeat(self, repeated: Repeated, is_calm: bool) -> None:
        if self._gate.repeats is not None and not repeated.disconnected:
            self._gate.repeats.begin(repeated, is_calm)

    def can_write(self) -> bool:
        return not self.flow.write_paused

    def default_headers(self) -> list[tuple[bytes, bytes]]:
        return self.server_state.default_headers

    def answer(self, repeated: Repeated, answer: bytes) -> None:
        self.transport.write(answer)
        repeated.response_complete = True
        self.on_response_complete()

    async def ask_app(self, repeated: Repeated, found: bytes | Exception) -> None:
        if repeated.disconnected:
            return
        scope = {**repeated.scope, FOUND: found, ARRIVED: repeated.arrived}
        size = b"%d" % len(repeated.body)  # in the head of the one that it repeats it may be another
        scope["headers"] = [(name, size if name == b"content-length" else value) for name, value in scope["headers"]]
        exchange = self._exchange(scope, repeated.keep_alive)
        exchange.body += repeated.body
        exchange.more_body = exchange.waiting_for_100_continue = False
        exchange.message_event.set()
        if self.cycle is repeated:  # type: ignore[comparison-overlap]
            self.cycle = exchange
        self._current = exchange
        await exchange.run_asgi(self.app)

    def keep(self, task: "asyncio.Task[None]") -> None:
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _note_repeat(self, answered: RequestResponseCycle) -> None:
        """The next request may repeat the head of this one, where that came in one piece."""
        if self._whole:
            repeats = self._gate.repeats is not None and answered.keep_alive
            self._repeat = repeat_of(self._whole, cast(Scope, answered.scope)) if repeats else None
            self._whole = b""

    def _receive(self, scope: Any, keep_alive: bool) -> bool:
        """Whether the app hears of a request, whose turn it is; else it is answered."""
        answer = self._gate.receive(scope["method"].encode(), scope["raw_path"], scope["headers"])
        if not isinstance(answer, bytes):
            self._ticket = answer
            return True
        self.server_state.total_requests += 1
        self.transport.write(answer)
        if not keep_alive:
            self._close()
        return False

    def _exchange(self, scope: Any, keep_alive: bool) -> Exchange:
        return Exchange(
            scope=scope,
            transport=self._outlet,  # type: ignore[arg-type]
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )

    def _put(self, start: Callable[[], None]) -> None:
        self._gate.starts.put("" if self._ticket is None else self._ticket.key, start)
