"""Bundles, collections and aliases."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from bebr.engine import CollectionSettings, FitSettings
from bebr.errors import AlreadyExists, BundleNotFound, Conflict, DamagedBundle, Incompatible, InvalidOption, InvalidSpec
from bebr.server import requests, responses
from bebr.server.bodies import JSON
from bebr.server.context import EngineOf, read_json
from bebr.server.openapi import COLLECTION, STORE, WRITES, Operation
from bebr.server.responses import json_response
from bebr.server.validation import at_fault

router = APIRouter()

LIST_BUNDLES = Operation("List bundles", "collections", responses.BundleList, description="The bundles on hand.")
CREATE = Operation(
    "Create a collection",
    "collections",
    responses.Collection,
    errors=(InvalidSpec, BundleNotFound, AlreadyExists, Incompatible, DamagedBundle, *STORE, *WRITES),
    body={JSON: requests.CreateCollection},
    description="From a bundle that encodes texts and vectors, from a CodeSpec for codes of your own, or with a fit: "
    "then the first embeddings are kept until a binarizer of the collection's own is fitted to them.",
)
LIST = Operation("List collections", "collections", responses.CollectionList, errors=STORE)
DESCRIBE = Operation(
    "Describe a collection",
    "collections",
    responses.Collection,
    errors=COLLECTION,
    description="Points per code version and shard, bytes in memory, active version, seq.",
)
FIT = Operation(
    "Fit a collection's own binarizer",
    "collections",
    responses.FitAccepted,
    errors=(Conflict, DamagedBundle, *COLLECTION),
    body={JSON: requests.FitCollection},
    status=202,
    description="The next `sample` points that are written, new ones or old ones again, are kept as embeddings until a "
    "binarizer is fitted to them. Other points keep their codes, and both are searched together. 409 while a fit is "
    "under way.",
)
DELETE = Operation("Delete a collection", "collections", responses.Deleted, errors=(Conflict, *COLLECTION))
LIST_ALIASES = Operation("List aliases", "aliases", responses.Aliases, errors=STORE)
UPDATE_ALIASES = Operation(
    "Change aliases",
    "aliases",
    responses.Aliases,
    errors=(AlreadyExists, *COLLECTION),
    body={JSON: requests.UpdateAliases},
    description="All actions are applied at once, or none. An alias can stand wherever a collection is named.",
)


@router.get("/v1/bundles", **LIST_BUNDLES.route_options())
async def list_bundles(engine: EngineOf) -> Response:
    return json_response({"bundles": engine.list_bundles()})


@router.get("/v1/collections", **LIST.route_options())
async def list_collections(engine: EngineOf) -> Response:
    return json_response({"collections": engine.list_collections()})


@router.put("/v1/collections/{collection}", **CREATE.route_options())
async def create_collection(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, requests.CreateCollection)
    fit = None if body.fit is None else FitSettings(body.fit.bytes, body.fit.sample, body.fit.dims)
    settings = CollectionSettings(body.bundle, body.code, fit, body.shards, body.filterable, body.text_field)
    with at_fault("code", InvalidSpec), at_fault("bundle", BundleNotFound):
        return json_response(await engine.create_collection(collection, settings))


@router.get("/v1/collections/{collection}", **DESCRIBE.route_options())
async def describe_collection(collection: str, engine: EngineOf) -> Response:
    return json_response(await engine.describe_collection(collection))


@router.post("/v1/collections/{collection}/fit", **FIT.route_options())
async def fit_collection(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, requests.FitCollection)
    return json_response(await engine.fit_collection(collection, body.bytes, body.sample, body.now), 202)


@router.delete("/v1/collections/{collection}", **DELETE.route_options())
async def delete_collection(collection: str, engine: EngineOf) -> Response:
    await engine.delete_collection(collection)
    return json_response({"deleted": collection})


@router.get("/v1/aliases", **LIST_ALIASES.route_options())
async def list_aliases(engine: EngineOf) -> Response:
    return json_response({"aliases": engine.list_aliases()})


@router.post("/v1/aliases", **UPDATE_ALIASES.route_options())
async def update_aliases(request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, requests.UpdateAliases)
    for i, action in enumerate(body.actions):
        if (action.create is None) == (action.delete is None):
            raise InvalidOption(f"actions[{i}]: expected exactly one of create, delete", key=f"actions[{i}]")
    await engine.update_aliases([action.model_dump(exclude_none=True) for action in body.actions])
    return json_response({"aliases": engine.list_aliases()})
