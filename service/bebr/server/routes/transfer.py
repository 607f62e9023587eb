"""Whole collections: read one as it is stored, and make one of what was read."""

from dataclasses import asdict

from fastapi import APIRouter, Request
from starlette.responses import Response

from bebr.engine import transfer
from bebr.engine.answers import size_of
from bebr.errors import (
    AlreadyExists,
    BundleNotFound,
    Conflict,
    DamagedBundle,
    Incompatible,
    InvalidSpec,
)
from bebr.server.access import Access
from bebr.server.bodies.body import JSON, parse, read_body
from bebr.server.bodies.large_bodies import parse_items
from bebr.server.context import EngineOf, read_json
from bebr.server.openapi import COLLECTION, STORE, WRITES, Operation
from bebr.server.requests.transfer import Definition, ExportPoints, ImportPoints
from bebr.server.responses.base import json_response, written
from bebr.server.responses.collections import Collection
from bebr.server.responses.points import WriteReport
from bebr.server.responses.transfer import CollectionDefinition, ExportedPoints, exported_json

router = APIRouter(prefix="/v1/collections/{collection}")

GET = Operation(
    "Get a collection's definition",
    "transfer",
    CollectionDefinition,
    access=Access.READ,
    errors=(Conflict, *COLLECTION),
    description="Everything but the points: fields, code versions, fitted binarizers, aliases. Another service makes "
    "an equal collection of it.",
)
PUT = Operation(
    "Create a collection by its definition",
    "transfer",
    Collection,
    errors=(InvalidSpec, BundleNotFound, AlreadyExists, Incompatible, DamagedBundle, *STORE, *WRITES),
    body={JSON: Definition},
    description="As another service gave it. The bundles that its codes and texts need must be here, with the same "
    "fingerprints. Aliases are not set.",
)
EXPORT = Operation(
    "Export points",
    "transfer",
    ExportedPoints,
    access=Access.READ,
    errors=COLLECTION,
    body={JSON: ExportPoints},
    body_required=False,
    description="Points with their codes, of all code versions, by ascending id, page by page: each as it is when its "
    "page is read.",
)
IMPORT = Operation(
    "Import points",
    "transfer",
    WriteReport,
    errors=(Conflict, *WRITES),
    body={JSON: ImportPoints},
    description="Points as they were exported, into a collection that has their code versions under the same numbers. "
    "Each is checked; valid ones are applied, `items` names the others.",
)


@router.get("/definition", **GET.route_options())
async def get_definition(collection: str, engine: EngineOf) -> Response:
    found = await engine.transfer.definition(collection)
    return json_response(CollectionDefinition(**asdict(found)))


@router.put("/definition", **PUT.route_options())
async def put_definition(collection: str, request: Request, engine: EngineOf) -> Response:
    body = parse(Definition, await read_body(request.scope, request.receive, engine.limits.max_body_bytes))
    definition = transfer.Definition(**body.model_dump(exclude={"import_id"}))
    return json_response(Collection.of(await engine.import_collection(collection, definition, body.import_id)))


@router.post("/points/export", **EXPORT.route_options())
async def export_points(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, ExportPoints)
    page = await engine.transfer.read(collection, body.limit, body.cursor)
    size = sum(size_of(point.metadata, point.record) for point in page.points)
    return json_response(await written(size, exported_json, page))


@router.post("/points/import", **IMPORT.route_options())
async def import_points(collection: str, request: Request, engine: EngineOf) -> Response:
    limits = engine.limits
    body = await read_body(request.scope, request.receive, limits.max_body_bytes)
    parsed = await parse_items(ImportPoints, body, "points", limits.max_batch_points)
    report = await engine.transfer.write(collection, parsed.points, parsed.import_id, parsed.last)
    return json_response(WriteReport.of(report))
