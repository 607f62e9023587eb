"""Answers the hot routes ahead of the framework, whose layers and list of routes cost a good part of a small search."""

from collections.abc import Sequence

from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bebr.errors import BebrError
from bebr.server.problems import answer_problem, os_problem

COLLECTIONS = "/v1/collections/"


class HotRoutes:
    """The innermost of our layers. What is not exactly a hot route goes on to the framework, which has them as well.

    routes: their endpoints are ASGI apps.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[Route]) -> None:
        self._app = app
        self._routes = {route.path.removeprefix(COLLECTIONS).partition("/")[2]: route for route in routes}
        """By what follows the collection in the path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith(COLLECTIONS):
            name, _, rest = scope["path"][len(COLLECTIONS) :].partition("/")
            route = self._routes.get(rest)
            if route is not None and name and not scope.get("root_path"):
                scope["path_params"], scope["route"] = {"collection": name}, route
                try:
                    await route.endpoint(scope, receive, send)
                except BebrError as error:
                    await answer_problem(error, scope, receive, send)
                except OSError as error:
                    await answer_problem(os_problem(error, scope), scope, receive, send)
                return
        await self._app(scope, receive, send)
