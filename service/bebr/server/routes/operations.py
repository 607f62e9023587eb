"""Probes, metrics and documentation."""

import asyncio
from collections.abc import Mapping
from functools import partial

from fastapi import APIRouter, Request
from prometheus_client.core import Metric
from starlette.responses import Response

from bebr.engine import Engine
from bebr.errors import NotFound, NotReady, StoreUnavailable
from bebr.server.access import Access
from bebr.server.context import EngineOf
from bebr.server.metrics import CONTENT_TYPE, Collected, HttpMetrics
from bebr.server.middleware.auth import ASSETS
from bebr.server.openapi import Operation
from bebr.server.pages.assets import HEADERS, TYPES, assets
from bebr.server.pages.docs import render_page
from bebr.server.problems import ANONYMOUS
from bebr.server.responses.base import json_response
from bebr.server.responses.operations import Health, MemberList
from bebr.server.team.team import Team, number_of
from bebr.server.team.whole import collections_of, read

router = APIRouter()

LIVEZ = Operation("Is the process alive?", "operations", Health, access=Access.READ)
READYZ = Operation(
    "Is the service ready?",
    "operations",
    Health,
    access=Access.READ,
    errors=(NotReady, StoreUnavailable),
    description="Ready when every shard has caught up with the store and the store answers.",
)
MEMBERS = Operation(
    "List the services that share the store",
    "operations",
    MemberList,
    access=Access.READ,
    description="Those that run with `shared_store` on the same Redis prefix; none where this service has it to "
    "itself. One that died is gone after 10 seconds.",
)
METRICS = Operation("Metrics for Prometheus", "operations", None, answer_type="text/plain", access=Access.READ)


@router.get("/livez", **LIVEZ.route_options())
async def livez() -> Response:
    return json_response(Health(status="alive"))


@router.get("/readyz", **READYZ.route_options())
async def readyz(request: Request, engine: EngineOf) -> Response:
    try:
        await check_ready(engine)
    except (NotReady, StoreUnavailable) as error:
        if request.scope.get(ANONYMOUS):  # the reason has names of collections and paths
            raise NotReady("not ready yet; send an API key to learn why") from error
        raise
    return json_response(Health(status="ready"))


async def check_ready(engine: Engine) -> None:
    """Raises NotReady; StoreUnavailable."""
    _check_state(engine)
    await engine.ping_store()
    _check_state(engine)  # the store may have been found to have lost something


def _check_state(engine: Engine) -> None:
    state = engine.readiness()
    if not state.ready:
        raise NotReady("not ready yet; see 'fields' for the reason", problem=state.problem, loading=state.loading)


@router.get("/v1/members", **MEMBERS.route_options())
async def list_members(engine: EngineOf) -> Response:
    return json_response(MemberList.of(engine.list_members()))


@router.get("/metrics", **METRICS.route_options())
async def metrics(request: Request) -> Response:
    found: HttpMetrics = request.app.state.metrics
    team: Team | None = request.app.state.team
    others = {} if team is None else await team.metrics()
    collected = found.collected()
    text = await asyncio.to_thread(collected.render if team is None else partial(_of_all, collected, team, others))
    return Response(text, headers={"content-type": CONTENT_TYPE})


def _of_all(collected: Collected, team: Team, others: Mapping[str, str | None]) -> bytes:
    """others: what they say, by process."""
    parsed = {process: None if text is None else read(text) for process, text in others.items()}
    own = collected.metrics
    ended = team.ended.with_ended({**parsed, team.process: own}, collections_of(own))
    said: dict[int, list[Metric]] = {}
    for process, metrics in parsed.items():
        said.setdefault(number_of(process), []).extend(metrics or ())
    return collected.render_all(team.number, said, ended)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    page = await asyncio.to_thread(render_page, request.app.openapi())
    return Response(page, headers=HEADERS | {"content-type": TYPES[".html"]})


@router.get("/", include_in_schema=False)
async def search_page() -> Response:
    return _asset("search.html")


@router.get(ASSETS + "{name}", include_in_schema=False)
async def asset(name: str) -> Response:
    return _asset(name)


def _asset(name: str) -> Response:
    if name not in assets():
        raise NotFound(f"there is no file {name!r:.100} of the pages")
    content, kind = assets()[name]
    return Response(content, headers=HEADERS | {"content-type": kind})
