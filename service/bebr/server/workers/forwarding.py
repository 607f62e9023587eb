"""A layer of workers that are not the primary: what they do not answer themselves goes to the primary."""

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from bebr.errors import Unavailable
from bebr.server.middleware.envelope import FORWARDED
from bebr.server.problems import answer_problem
from bebr.server.workers.primary import Primary


class Forwarding:
    """Passes requests on to the primary, but for those that `answers` is true of."""

    def __init__(self, app: ASGIApp, primary: Primary, answers: Callable[[Scope], bool]) -> None:
        self._app = app
        self._primary = primary
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._answers(scope):
            await self._app(scope, receive, send)
            return
        try:
            await self._primary.exchange(scope, receive, send)
        except Unavailable as error:
            await answer_problem(error, scope, receive, send)
        else:
            scope[FORWARDED] = True
