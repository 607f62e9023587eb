"""The app: routes, the layers around them, error handlers, the OpenAPI document.

From the outside in: Envelope (request id, metrics, unexpected errors), Callers (their deadlines), ApiKeys (if there are
keys, else KnownHosts), Forwarding (in workers that are not the primary), CompressLargeAnswers, HotRoutes (searches),
then the framework and its routes.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import Depends, FastAPI
from starlette.routing import BaseRoute

from bebr import __version__
from bebr.engine import Engine
from bebr.errors import BebrError
from bebr.jobs import JobQueue
from bebr.server.access import is_read
from bebr.server.bodies.body import BodyBudget
from bebr.server.connections.connection import ConnectionLimits, Gate
from bebr.server.connections.key_limits import KeyLimits
from bebr.server.connections.probes import Probes
from bebr.server.connections.reception import Reception
from bebr.server.connections.repeats import Repeats
from bebr.server.context import Services, look_for_collection, reject_unknown_query
from bebr.server.loop_watch import LoopWatch
from bebr.server.metrics import HttpMetrics, StateGauges
from bebr.server.middleware.access_log import AccessLog
from bebr.server.middleware.auth import ApiKeys
from bebr.server.middleware.callers import Callers
from bebr.server.middleware.envelope import VERSION_HEADER, Envelope, note
from bebr.server.middleware.gzip import CompressLargeAnswers
from bebr.server.middleware.hosts import KnownHosts
from bebr.server.middleware.hot_routes import HotRoutes
from bebr.server.middleware.request_ids import request_ids
from bebr.server.openapi import build_document
from bebr.server.problems import install_handlers
from bebr.server.routes import collections, embeddings, jobs, operations, points, transfer, versions, writes
from bebr.server.routes.search import HotRoute, hot_routes
from bebr.server.team.team import Team
from bebr.server.workers.forwarding import Forwarding
from bebr.server.workers.own import is_own
from bebr.server.workers.primary import Primary

ROUTERS = tuple(
    module.router for module in (transfer, points, writes, embeddings, collections, versions, jobs, operations)
)


@dataclass(frozen=True)
class ApiOptions:
    """What the operator decides about the HTTP side."""

    api_keys: tuple[str, ...] = ()
    """Keys that may read and write. Without any keys nobody needs one."""
    read_only_api_keys: tuple[str, ...] = ()
    open_metrics: bool = False
    """Whether /metrics is answered without a key."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that a service without keys answers to, beside addresses and names of private networks."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that may call a service without keys."""
    key_requests_per_s: int = 0
    """Requests that each key may send; 0: any number."""
    log_requests_per_s: int = 10
    """Lines per second of requests that succeeded."""
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    slow_loop_seconds: float = 0.25
    """Log when the event loop was stopped for so long."""
    probe_address: tuple[str, int] | None = None
    """Where probes are answered beside the event loop, too."""
    dead_loop_seconds: float = 60.0
    """The loop counts as dead there when it was stopped for so long."""


def create_app(
    engine: Engine,
    job_queue: JobQueue,
    options: ApiOptions | None = None,
    primary: Primary | None = None,
    team: Team | None = None,
) -> FastAPI:
    """The app around an engine and its jobs. Its lifespan starts and stops both. `app.state.gate` is for `protocol`.

    primary: it answers what this process does not, which follows it. team: the workers that this process is one of.
    """
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
        dependencies=[Depends(reject_unknown_query), Depends(look_for_collection)],
        lifespan=lambda app: _lifespan(engine, job_queue, app.state.loop_watch, app.state.probes, primary),
    )
    hot = hot_routes(engine)
    app.router.routes[:0] = hot
    for router in ROUTERS:
        app.include_router(router)
    app.openapi = partial(_document, app, hot, engine)  # type: ignore[method-assign]
    app.state.services = Services(engine, job_queue)
    app.state.primary, app.state.team = primary, team
    app.state.bodies = BodyBudget(engine.limits)
    app.state.metrics = HttpMetrics()
    app.state.metrics.registry.register(StateGauges(engine, job_queue, app.state.bodies))
    app.state.loop_watch = watch = LoopWatch(app.state.metrics.registry, options.slow_loop_seconds)
    app.state.probes = _probes(engine, watch, options)
    access_log, ids = AccessLog(options.log_requests_per_s), request_ids()
    refused = partial(_refused, app.state.metrics, access_log)
    app.state.keys = keys = KeyLimits(
        (*options.api_keys, *options.read_only_api_keys), options.key_requests_per_s, team
    )
    reception = Reception(engine, keys, refused, ids, takes_writes=primary is None)
    app.state.gate = Gate(
        options.connections,
        receive=reception.receive,
        receive_inside=reception.receive_inside,
        refuse_unparsed=reception.refuse_unparsed,
        on_refusal=refused,
        request_ids=ids,
        repeats=Repeats(ids, VERSION_HEADER, partial(note, app.state.metrics, access_log)),
    )
    install_handlers(app)
    app.add_middleware(HotRoutes, routes=hot)
    routes = [*hot, *(route for router in ROUTERS for route in router.routes)]
    _add_layers(app, options, access_log, routes, primary)
    return app


def _probes(engine: Engine, watch: LoopWatch, options: ApiOptions) -> Probes | None:
    if options.probe_address is None:
        return None
    ready = partial(operations.check_ready, engine)
    return Probes(options.probe_address, ready, watch.stopped_seconds, options.dead_loop_seconds)


def _refused(
    metrics: HttpMetrics, access_log: AccessLog, error: BebrError, client: str, request_id: str, count: int
) -> None:
    metrics.count_error(type(error).__name__, count)
    access_log.refused(error, client, request_id, count)


def _add_layers(
    app: FastAPI, options: ApiOptions, access_log: AccessLog, routes: Sequence[BaseRoute], primary: Primary | None
) -> None:
    """The last one added is the outermost."""
    app.add_middleware(CompressLargeAnswers)
    if primary is not None:
        key_of = app.state.services.engine.registry.key_of
        app.add_middleware(Forwarding, primary=primary, answers=partial(is_own, lambda name: key_of(name) is not None))
    if options.api_keys or options.read_only_api_keys:
        app.add_middleware(
            ApiKeys,
            keys=options.api_keys,
            read_only_keys=options.read_only_api_keys,
            is_read=partial(is_read, routes),
            open_metrics=options.open_metrics,
        )
    else:
        app.add_middleware(KnownHosts, hosts=options.allowed_hosts, origins=options.allowed_origins)
    app.add_middleware(Callers)
    app.add_middleware(
        Envelope,
        bodies=app.state.bodies,
        metrics=app.state.metrics,
        access_log=access_log,
        ids=app.state.gate.request_ids,
    )


def _document(app: FastAPI, hot: Sequence[HotRoute], engine: Engine) -> dict[str, Any]:
    if app.openapi_schema is None:
        raw = {route.path: {"post": route.document()} for route in hot}
        app.openapi_schema = build_document(app, raw, engine.limits)
    return app.openapi_schema


@asynccontextmanager
async def _lifespan(
    engine: Engine, job_queue: JobQueue, watch: LoopWatch, probes: Probes | None, primary: Primary | None
) -> AsyncIterator[None]:
    if probes is not None:
        probes.start()
    await engine.start()
    await job_queue.start()
    watch.start()
    try:
        yield
    finally:
        watch.stop()
        await job_queue.stop()
        await engine.stop()
        if primary is not None:
            primary.close()
        if probes is not None:
            await asyncio.to_thread(probes.stop)
