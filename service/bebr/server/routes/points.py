"""Points: read, count, delete and change them. Writing stands in `writes`, searching in `bebr.server.routes.search`."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from bebr.errors import InvalidFilter, InvalidId, InvalidMetadata, InvalidOption, PointNotFound
from bebr.server import requests, responses
from bebr.server.bodies import JSON
from bebr.server.context import EngineOf, read_json
from bebr.server.openapi import COLLECTION, WRITES, Operation
from bebr.server.responses import json_response
from bebr.server.validation import check_ids

router = APIRouter(prefix="/v1/collections/{collection}/points")

GET_MANY = Operation(
    "Get points by id",
    "points",
    responses.Points,
    errors=(InvalidId, *COLLECTION),
    body={JSON: requests.GetPoints},
    description="Ids that do not exist are listed in `missing`.",
)
GET_ONE = Operation("Get a point", "points", responses.StoredPoint, errors=(InvalidId, PointNotFound, *COLLECTION))
DELETE = Operation(
    "Delete points",
    "points",
    responses.DeletedPoints,
    errors=(InvalidId, InvalidFilter, *WRITES),
    body={JSON: requests.DeletePoints},
    description="By ids or by filter. `dry_run` only counts. Deleting an id that does not exist is no error.",
)
SCROLL = Operation(
    "Scroll through points",
    "points",
    responses.ScrollPage,
    errors=(InvalidFilter, *COLLECTION),
    body={JSON: requests.Scroll},
    body_required=False,
    description="All points in a stable order, page by page.",
)
COUNT = Operation(
    "Count points",
    "points",
    responses.Counted,
    errors=(InvalidFilter, *COLLECTION),
    body={JSON: requests.Count},
    body_required=False,
)
SET_METADATA = Operation(
    "Set metadata fields",
    "points",
    responses.Updated,
    errors=(InvalidId, InvalidFilter, InvalidMetadata, *WRITES),
    body={JSON: requests.SetMetadata},
    description="On points chosen by ids or by filter. Other fields stay.",
)


@router.post("/get", **GET_MANY.route_options())
async def get_points(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, requests.GetPoints)
    ids = _checked_ids(body.ids, engine.limits.max_batch_points)
    points, missing = await engine.get_points(collection, ids, body.with_metadata, body.with_code)
    return json_response({"points": points, "missing": missing})


@router.post("/delete", **DELETE.route_options())
async def delete_points(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, requests.DeletePoints)
    ids = _chosen_ids(body, engine.limits.max_batch_points)
    return json_response(await engine.delete_points(collection, ids, body.filter, body.dry_run))


@router.post("/scroll", **SCROLL.route_options())
async def scroll(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, requests.Scroll)
    return json_response(await engine.scroll(collection, body.filter, body.limit, body.cursor, body.with_metadata))


@router.post("/count", **COUNT.route_options())
async def count(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, requests.Count)
    return json_response({"count": await engine.count(collection, body.filter)})


@router.post("/metadata", **SET_METADATA.route_options())
async def set_metadata(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, requests.SetMetadata)
    ids = _chosen_ids(body, engine.limits.max_batch_points)
    return json_response(await engine.set_metadata(collection, ids, body.filter, body.set))


@router.get("/{id:path}", **GET_ONE.route_options())
async def get_point(collection: str, id: str, engine: EngineOf) -> Response:
    """Last, because its path takes whatever no other route took."""
    points, _ = await engine.get_points(collection, check_ids([id], "id"), True, False)
    if not points:
        raise PointNotFound(f"no point {id!r} in collection {collection!r:.100}", id=id)
    return json_response(points[0])


def _chosen_ids(body: requests.DeletePoints | requests.SetMetadata, most: int) -> list[str] | None:
    """The ids, or None when a filter chooses. Raises InvalidOption unless exactly one of the two is given."""
    if (body.ids is None) == (body.filter is None):
        raise InvalidOption("expected exactly one of ids, filter", key="ids")
    return None if body.ids is None else _checked_ids(body.ids, most)


def _checked_ids(values: list[object], most: int) -> list[str]:
    if len(values) > most:
        raise InvalidOption(f"ids: at most {most} in one request, got {len(values)}", key="ids")
    return check_ids(values, "ids")
