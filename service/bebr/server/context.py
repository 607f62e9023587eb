"""What routes need from the app they run in, and how all of them read queries and bodies."""

from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel

from bebr.config import Limits
from bebr.engine import Engine
from bebr.jobs import JobQueue
from bebr.server.bodies.body import parse, read_body
from bebr.server.bodies.large_bodies import parse_items
from bebr.server.requests.base import MAX_ITEMS
from bebr.server.validation import reject_unknown

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Services:
    """What the app serves."""

    engine: Engine
    jobs: JobQueue


async def get_engine(request: Request) -> Engine:
    """The engine of the app."""
    services: Services = request.app.state.services
    return services.engine


async def get_jobs(request: Request) -> JobQueue:
    """The jobs of the app."""
    services: Services = request.app.state.services
    return services.jobs


EngineOf = Annotated[Engine, Depends(get_engine)]
JobsOf = Annotated[JobQueue, Depends(get_jobs)]


async def reject_unknown_query(request: Request) -> None:
    """Raise InvalidOption for a query parameter that the route does not have."""
    if request.query_params:
        known = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
        reject_unknown(request.query_params, known, "query parameter")


async def look_for_collection(request: Request) -> None:
    """Of several services that share a store, another one may just have made what the path names."""
    if (name := request.path_params.get("collection")) is not None and request.method != "PUT":
        services: Services = request.app.state.services
        await services.engine.look_for(name)


async def read_json(request: Request, model: type[Model]) -> Model:
    """The body as `model`. A request without a body counts as `{}`."""
    services: Services = request.app.state.services
    if _is_empty(request):
        return parse(model, b"{}")
    return parse(model, await read_body(request.scope, request.receive, services.engine.limits.max_query_bytes))


async def read_batch(request: Request, model: type[Model], name: str, item: type[BaseModel] | None = None) -> Model:
    """As `read_json`, for a body whose field `name` is an array of many. item: model of each; None: any JSON value."""
    if _is_empty(request):
        return parse(model, b"{}")
    limits: Limits = request.app.state.services.engine.limits
    body = await read_body(request.scope, request.receive, limits.max_batch_bytes)
    return await parse_items(model, body, name, MAX_ITEMS, item)


def _is_empty(request: Request) -> bool:
    return "content-type" not in request.headers and request.headers.get("content-length", "0") == "0"


def idempotency_key(request: Request) -> str | None:
    """The header Idempotency-Key."""
    return request.headers.get("idempotency-key")
