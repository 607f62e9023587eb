"""Probes, metrics and documentation."""

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from bebr.errors import NotReady, StoreUnavailable
from bebr.server import responses
from bebr.server.context import EngineOf
from bebr.server.docs_page import render_page
from bebr.server.metrics import CONTENT_TYPE, HttpMetrics
from bebr.server.openapi import Operation
from bebr.server.responses import json_response

router = APIRouter()

LIVEZ = Operation("Is the process alive", "operations", responses.Health)
READYZ = Operation(
    "Is the service ready",
    "operations",
    responses.Health,
    errors=(NotReady, StoreUnavailable),
    description="Ready when every shard has caught up with the store, the store answers and the models are warm.",
)
METRICS = Operation("Metrics for Prometheus", "operations", "text/plain")


@router.get("/livez", **LIVEZ.route_options())
async def livez() -> Response:
    return json_response({"status": "alive"})


@router.get("/readyz", **READYZ.route_options())
async def readyz(engine: EngineOf) -> Response:
    ready, reasons = engine.ready()
    if not ready:
        raise NotReady("not ready yet; 'fields' says what is missing", **reasons)
    await engine.ping_store()
    return json_response({"status": "ready"})


@router.get("/metrics", **METRICS.route_options())
async def metrics(request: Request) -> Response:
    found: HttpMetrics = request.app.state.metrics
    return Response(found.render(), headers={"content-type": CONTENT_TYPE})


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    return HTMLResponse(render_page(request.app.openapi()))


@router.get("/", include_in_schema=False)
async def root() -> Response:
    return RedirectResponse("/docs")
