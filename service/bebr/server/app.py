"""The app: routes, layers around them, error handlers, the OpenAPI document. It knows HTTP and nothing else does.

From the outside in: Envelope (request id, metrics, unexpected errors), ApiKeys (when there are keys), ZipLargeAnswers,
then the routes; the hot ones come first, because routes are tried in order.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, FastAPI

from bebr import __version__
from bebr.engine import Engine
from bebr.errors import (
    DimensionMismatch,
    Incompatible,
    InvalidCode,
    InvalidFilter,
    InvalidText,
    InvalidVector,
    Overloaded,
    PointNotFound,
)
from bebr.jobs import IngestJobs
from bebr.server import requests, responses
from bebr.server.bodies import JSON
from bebr.server.context import Services, reject_unknown_query
from bebr.server.metrics import HttpMetrics, StateGauges
from bebr.server.middleware.auth import ApiKeys
from bebr.server.middleware.envelope import Envelope
from bebr.server.middleware.gzip import ZipLargeAnswers
from bebr.server.openapi import COLLECTION, Operation, build_document
from bebr.server.problems import install_handlers
from bebr.server.routes import collections, embeddings, jobs, operations, points, versions, writes
from bebr.server.routes.search import HotRoute, SearchBatchEndpoint, SearchEndpoint

_SEARCH_ERRORS = (
    InvalidText,
    InvalidVector,
    InvalidCode,
    InvalidFilter,
    DimensionMismatch,
    PointNotFound,
    Incompatible,
    Overloaded,
)
SEARCH_PATH = "/v1/collections/{collection}/search"
SEARCH = Operation(
    "Search",
    "search",
    responses.SearchAnswer,
    errors=(*_SEARCH_ERRORS, *COLLECTION),
    body={JSON: requests.Search},
    description="By text, vector, code, or the id of a stored point. A filter never shortens the answer while matching "
    "points exist.",
)
SEARCH_BATCH = Operation(
    "Search many at once",
    "search",
    responses.SearchBatchAnswer,
    errors=(*_SEARCH_ERRORS, *COLLECTION),
    body={JSON: requests.SearchBatch},
    description="One scan for all. One wrong search fails the batch.",
)


@dataclass(frozen=True)
class ApiOptions:
    """What the operator decides about the HTTP side. Without keys nobody is asked for one."""

    api_keys: tuple[str, ...] = ()
    read_only_api_keys: tuple[str, ...] = ()
    open_metrics: bool = False


def create_app(engine: Engine, ingest_jobs: IngestJobs, options: ApiOptions | None = None) -> FastAPI:
    """The app around an engine and its jobs. Its lifespan starts and stops both."""
    options = options or ApiOptions()
    app = FastAPI(
        title="bebr",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        # /metrics and the log are our own, and looking whether FastAPI's are wanted costs every request.
        telemetry={"metrics": False, "logs": False},
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        dependencies=[Depends(reject_unknown_query)],
        lifespan=lambda _: _lifespan(engine, ingest_jobs),
    )
    metrics = HttpMetrics()
    metrics.registry.register(StateGauges(engine, ingest_jobs))
    app.state.services = Services(engine, ingest_jobs)
    app.state.metrics = metrics
    install_handlers(app)
    _add_layers(app, metrics, options)
    _add_routes(app, engine)
    return app


def _add_layers(app: FastAPI, metrics: HttpMetrics, options: ApiOptions) -> None:
    """The last one added is the outermost."""
    app.add_middleware(ZipLargeAnswers)
    if options.api_keys or options.read_only_api_keys:
        app.add_middleware(
            ApiKeys,
            keys=options.api_keys,
            read_only_keys=options.read_only_api_keys,
            open_metrics=options.open_metrics,
        )
    app.add_middleware(Envelope, metrics=metrics)


def _add_routes(app: FastAPI, engine: Engine) -> None:
    hot = [
        HotRoute(SEARCH_PATH, SearchEndpoint(engine), methods=["POST"], name="search"),
        HotRoute(SEARCH_PATH + "/batch", SearchBatchEndpoint(engine), methods=["POST"], name="search_batch"),
    ]
    app.router.routes[:0] = hot
    for module in (points, writes, embeddings, collections, versions, jobs, operations):
        app.include_router(module.router)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = build_document(app, _hot_operations())
    return app.openapi_schema


def _hot_operations() -> Mapping[str, Mapping[str, dict[str, Any]]]:
    parameter = {"name": "collection", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        SEARCH_PATH: {"post": SEARCH.document("search", [parameter])},
        SEARCH_PATH + "/batch": {"post": SEARCH_BATCH.document("search_batch", [parameter])},
    }


@asynccontextmanager
async def _lifespan(engine: Engine, ingest_jobs: IngestJobs) -> AsyncIterator[None]:
    await engine.start()
    await ingest_jobs.start()
    try:
        yield
    finally:
        await ingest_jobs.stop()
        await engine.stop()
