"""Probes, metrics and documentation."""

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from bebr.engine import Engine
from bebr.errors import NotReady, StoreUnavailable
from bebr.server.access import Access
from bebr.server.context import EngineOf
from bebr.server.docs_page import render_page
from bebr.server.metrics import CONTENT_TYPE, HttpMetrics
from bebr.server.openapi import Operation
from bebr.server.problems import ANONYMOUS
from bebr.server.responses.base import json_response
from bebr.server.responses.operations import Health

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


@router.get("/metrics", **METRICS.route_options())
async def metrics(request: Request) -> Response:
    found: HttpMetrics = request.app.state.metrics
    text = await asyncio.to_thread(found.collected().render)
    return Response(text, headers={"content-type": CONTENT_TYPE})


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    return HTMLResponse(render_page(request.app.openapi()))


@router.get("/", include_in_schema=False)
async def root() -> Response:
    return RedirectResponse("/docs")
