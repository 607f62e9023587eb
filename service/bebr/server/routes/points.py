"""Points: read, count, delete and change them. `writes` has the routes that write points."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from bebr.engine.answers import size_of
from bebr.engine.results import Point
from bebr.errors import (
    AnswerTooLarge,
    Conflict,
    InvalidFilter,
    InvalidId,
    InvalidMetadata,
    InvalidOption,
    PointNotFound,
)
from bebr.server.access import Access
from bebr.server.bodies.body import JSON
from bebr.server.context import EngineOf, read_json
from bebr.server.openapi import COLLECTION, WRITES, Operation
from bebr.server.requests.points import Count, DeletePoints, GetPoints, Scroll, SetMetadata
from bebr.server.responses.base import json_response, written
from bebr.server.responses.points import (
    Counted,
    DeletedPoints,
    Points,
    ScrollPage,
    StoredPoint,
    Updated,
    page_json,
    point_json,
    points_json,
)
from bebr.server.validation import check_ids

router = APIRouter(prefix="/v1/collections/{collection}/points")

GET_MANY = Operation(
    "Get points by id",
    "points",
    Points,
    access=Access.READ,
    errors=(InvalidId, AnswerTooLarge, *COLLECTION),
    body={JSON: GetPoints},
    description="`missing` lists the ids that do not exist.",
)
GET_ONE = Operation(
    "Get a point",
    "points",
    StoredPoint,
    access=Access.READ,
    errors=(InvalidId, PointNotFound, *COLLECTION),
)
DELETE = Operation(
    "Delete points",
    "points",
    DeletedPoints,
    errors=(InvalidId, InvalidFilter, Conflict, *WRITES),
    body={JSON: DeletePoints},
    description="By ids or by filter. `dry_run` only counts. Deleting an id that does not exist is not an error.",
)
SCROLL = Operation(
    "Scroll through points",
    "points",
    ScrollPage,
    access=Access.READ,
    errors=(InvalidFilter, Conflict, *COLLECTION),
    body={JSON: Scroll},
    body_required=False,
    description="All points by ascending id, page by page. A page has fewer than `limit` points where they are large.",
)
COUNT = Operation(
    "Count points",
    "points",
    Counted,
    access=Access.READ,
    errors=(InvalidFilter, Conflict, *COLLECTION),
    body={JSON: Count},
    body_required=False,
)
SET_METADATA = Operation(
    "Set metadata fields",
    "points",
    Updated,
    errors=(InvalidId, InvalidFilter, Conflict, InvalidMetadata, *WRITES),
    body={JSON: SetMetadata},
    description="Of points chosen by ids or by filter. Other fields are kept.",
)


@router.post("/get", **GET_MANY.route_options())
async def get_points(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, GetPoints)
    ids = _checked_ids(body.ids, engine.limits.max_batch_points)
    points, missing = await engine.get_points(collection, ids, body.with_metadata, body.with_code)
    return json_response(await written(_size_bytes(points), points_json, points, missing))


@router.post("/delete", **DELETE.route_options())
async def delete_points(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, DeletePoints)
    ids = _chosen_ids(body, engine.limits.max_batch_points)
    changed = await engine.delete_points(collection, ids, body.filter, body.dry_run)
    return json_response(DeletedPoints.of(changed, body.dry_run))


@router.post("/scroll", **SCROLL.route_options())
async def scroll(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, Scroll)
    page = await engine.scroll(
        collection,
        body.filter,
        limit=body.limit,
        cursor=body.cursor,
        with_metadata=body.with_metadata,
        min_seq=body.min_seq,
        strong=body.consistency is not None,
    )
    return json_response(await written(_size_bytes(page.points), page_json, page))


@router.post("/count", **COUNT.route_options())
async def count(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, Count)
    strong = body.consistency is not None
    return json_response(Counted(count=await engine.count(collection, body.filter, body.min_seq, strong)))


@router.post("/metadata", **SET_METADATA.route_options())
async def set_metadata(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, SetMetadata)
    ids = _chosen_ids(body, engine.limits.max_batch_points)
    changed = await engine.set_metadata(collection, ids, body.filter, body.set)
    return json_response(Updated(updated=changed.points, seq=changed.seq))


@router.get("/{id:id}", **GET_ONE.route_options())
async def get_point(collection: str, id: str, engine: EngineOf) -> Response:
    """The last route here, because its path matches whatever no other one did."""
    points, _ = await engine.get_points(collection, check_ids([id], "id"), True, False)
    if not points:
        raise PointNotFound(f"no point {id!r} in collection {collection!r:.100}", id=id)
    return json_response(point_json(points[0]))


def _size_bytes(points: list[Point]) -> int:
    return sum([size_of(point.metadata, point.code) for point in points])


def _chosen_ids(body: DeletePoints | SetMetadata, most: int) -> list[str] | None:
    """The ids, or None when a filter chooses. Raises InvalidOption unless exactly one of the two is given."""
    if (body.ids is None) == (body.filter is None):
        raise InvalidOption("expected exactly one of ids, filter", key="ids")
    return None if body.ids is None else _checked_ids(body.ids, most)


def _checked_ids(values: list[object], most: int) -> list[str]:
    if len(values) > most:
        raise InvalidOption(f"ids: at most {most} in one request, got {len(values)}", key="ids")
    return check_ids(values, "ids")
