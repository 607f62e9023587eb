"""A layer of workers that are not the primary: what they do not answer themselves goes to the primary.

So does what such a worker began to answer and could not, since its views are late: the primary's never are.
"""

from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bebr.errors import NotReady, Overloaded, Unavailable
from bebr.server.bodies.body import BodyBudget
from bebr.server.middleware.envelope import FORWARDED
from bebr.server.problems import ERROR, answer_problem
from bebr.server.workers.primary import Primary


class Forwarding:
    """Passes requests on to the primary, but for those that `answers` is true of."""

    def __init__(self, app: ASGIApp, primary: Primary, answers: Callable[[Scope], bool]) -> None:
        self._app = app
        self._primary = primary
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif not self._answers(scope):
            await self._pass_on(scope, receive, send)
        else:
            attempt = _Attempt(scope, receive, send)
            await self._app(scope, attempt.receive, attempt.send)
            if attempt.is_late:
                del scope[ERROR]
                await self._pass_on(scope, attempt.receive_again, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._primary.exchange(scope, receive, send)
        except Unavailable as error:
            await answer_problem(error, scope, receive, send)
        else:
            scope[FORWARDED] = True


class _Attempt:
    """A request that this worker answers itself, of which the body is kept until it has."""

    __slots__ = ("_kept", "_receive", "_scope", "_send", "is_late")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._kept: list[Message] | None = []
        """What came of the body; None: it cannot be read again."""
        self.is_late = False
        """The answer would be that this worker is not ready; nothing of it was sent."""

    async def receive(self) -> Message:
        message = await self._receive()
        if self._kept is not None and message["type"] == "http.request":
            self._keep(message)
        return message

    async def receive_again(self) -> Message:
        """The body from its beginning."""
        return self._kept.pop(0) if self._kept else await self._receive()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.is_late = self._kept is not None and self._scope.get(ERROR) == NotReady.__name__
        if not self.is_late:
            self._kept = None
            await self._send(message)

    def _keep(self, message: Message) -> None:
        """A body in several chunks counts once more towards what all may hold, since it is joined elsewhere."""
        assert self._kept is not None
        if self._kept or message.get("more_body", False):
            budget: BodyBudget = self._scope["app"].state.bodies
            try:
                budget.take(self._scope, len(message.get("body", b"")))
            except Overloaded:
                self._kept = None
                return
        self._kept.append(message)
