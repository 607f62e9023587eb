"""Bundles, collections and aliases."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from bebr.engine import AliasChange, CollectionSettings, FitSettings
from bebr.errors import AlreadyExists, BundleNotFound, Conflict, DamagedBundle, Incompatible, InvalidOption, InvalidSpec
from bebr.server.access import Access
from bebr.server.bodies.body import JSON
from bebr.server.context import EngineOf, read_json
from bebr.server.openapi import COLLECTION, STORE, WRITES, Operation
from bebr.server.requests.collections import (
    AliasAction,
    CreateCollection,
    FitCollection,
    UpdateAliases,
    UpdateCollection,
)
from bebr.server.responses.base import json_response
from bebr.server.responses.collections import (
    Aliases,
    Bundle,
    BundleList,
    ChangedCollection,
    Collection,
    CollectionList,
    Deleted,
    FitAccepted,
    FitStatus,
)
from bebr.server.validation import at_fault

router = APIRouter()

LIST_BUNDLES = Operation(
    "List bundles",
    "collections",
    BundleList,
    access=Access.READ,
    description="The bundles that collections can be created from.",
)
CREATE = Operation(
    "Create a collection",
    "collections",
    Collection,
    errors=(InvalidSpec, BundleNotFound, AlreadyExists, Incompatible, DamagedBundle, *STORE, *WRITES),
    body={JSON: CreateCollection},
    description="From a bundle, which encodes texts and vectors; from the dims of your own vectors; or from a "
    "CodeSpec, for your own codes. With a fit, the first embeddings are kept until a binarizer of the collection's own "
    "is fitted to them.",
)
LIST = Operation("List collections", "collections", CollectionList, access=Access.READ, errors=STORE)
DESCRIBE = Operation(
    "Describe a collection",
    "collections",
    Collection,
    access=Access.READ,
    errors=COLLECTION,
    description="Its points by code version and by shard, its memory, its fit.",
)
UPDATE = Operation(
    "Change a collection",
    "collections",
    ChangedCollection,
    errors=COLLECTION,
    body={JSON: UpdateCollection},
    accepted=True,
    description="Only what is given changes; it applies to searches and writes from now on. Fields that are added to a "
    "collection with points are built by a job. Searches go on; filters on these fields are a Conflict meanwhile.",
)
FIT = Operation(
    "Fit a collection's own binarizer",
    "collections",
    FitAccepted,
    errors=(Conflict, Incompatible, DamagedBundle, *COLLECTION),
    body={JSON: FitCollection},
    body_required=False,
    status=202,
    description="The next `sample` points to be written, new or rewritten, are kept as embeddings until a binarizer is "
    "fitted to them. Other points keep their codes; all are searched together. With `from` a binarizer is fitted to "
    "what there is already. Conflict while a fit is running.",
)
DELETE = Operation("Delete a collection", "collections", Deleted, errors=(Conflict, *COLLECTION))
LIST_ALIASES = Operation("List aliases", "aliases", Aliases, access=Access.READ, errors=STORE)
UPDATE_ALIASES = Operation(
    "Change aliases",
    "aliases",
    Aliases,
    errors=(AlreadyExists, *COLLECTION),
    body={JSON: UpdateAliases},
    description="All actions are applied together, or none. An alias works wherever a collection is named, except to "
    "create or delete one.",
)


@router.get("/v1/bundles", **LIST_BUNDLES.route_options())
async def list_bundles(engine: EngineOf) -> Response:
    return json_response(BundleList(bundles=[Bundle.of(bundle) for bundle in engine.list_bundles()]))


@router.get("/v1/collections", **LIST.route_options())
async def list_collections(engine: EngineOf) -> Response:
    await engine.keep_up()
    return json_response(CollectionList.of(engine.list_collections()))


@router.put("/v1/collections/{collection}", **CREATE.route_options())
async def create_collection(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, CreateCollection)
    settings = CollectionSettings(
        bundle=body.bundle,
        code=body.code,
        dims=body.dims,
        fit=body.fit if body.fit is None or isinstance(body.fit, bool) else FitSettings(**body.fit.model_dump()),
        shards=body.shards,
        filterable={} if body.filterable == "auto" else body.filterable,
        auto_filterable=body.filterable == "auto",
        text_field=body.text_field,
        recall=body.recall,
    )
    with at_fault("code", InvalidSpec), at_fault("bundle", BundleNotFound):
        return json_response(Collection.of(await engine.create_collection(collection, settings)))


@router.get("/v1/collections/{collection}", **DESCRIBE.route_options())
async def describe_collection(collection: str, engine: EngineOf) -> Response:
    return json_response(Collection.of(await engine.describe_collection(collection)))


@router.patch("/v1/collections/{collection}", **UPDATE.route_options())
async def update_collection(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, UpdateCollection)
    if not body.model_fields_set:
        raise InvalidOption("nothing to change: give 'recall' or 'filterable'", key="recall")
    job = None
    if "filterable" in body.model_fields_set:
        if isinstance(body.filterable, dict):
            job = await engine.change_fields(collection, body.filterable)
        else:
            job = await engine.change_fields(collection, {}, auto=body.filterable == "auto")
    if "recall" in body.model_fields_set:
        await engine.set_recall(collection, body.recall)
    status = await engine.describe_collection(collection)
    return json_response(ChangedCollection.of(status).model_copy(update={"job": job}), 202 if job else 200)


@router.post("/v1/collections/{collection}/fit", **FIT.route_options())
async def fit_collection(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, FitCollection)
    name = engine.registry.get(collection).name
    fit = await engine.fits.request(
        collection,
        size_bytes=body.bytes,
        rescore_bytes=body.rescore_bytes,
        sample=body.sample,
        cpu_seconds=body.cpu_seconds,
        now=body.now,
        source=body.source,
    )
    return json_response(FitAccepted(name=name, fit=FitStatus.of(fit)), 202)


@router.delete("/v1/collections/{collection}", **DELETE.route_options())
async def delete_collection(collection: str, engine: EngineOf) -> Response:
    await engine.delete_collection(collection)
    return json_response(Deleted(deleted=collection))


@router.get("/v1/aliases", **LIST_ALIASES.route_options())
async def list_aliases(engine: EngineOf) -> Response:
    await engine.keep_up_names()
    return json_response(Aliases(aliases=engine.list_aliases()))


@router.post("/v1/aliases", **UPDATE_ALIASES.route_options())
async def update_aliases(request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, UpdateAliases)
    await engine.change_aliases([_to_change(action, f"actions[{i}]") for i, action in enumerate(body.actions)])
    return json_response(Aliases(aliases=engine.list_aliases()))


def _to_change(action: AliasAction, at: str) -> AliasChange:
    """`at`: where the action is in the body, for errors."""
    if action.create is not None and action.delete is None:
        return AliasChange(action.create.alias, action.create.collection)
    if action.delete is not None and action.create is None:
        return AliasChange(action.delete.alias, None)
    raise InvalidOption(f"{at}: expected exactly one of create, delete", key=at)
