"""Code versions of a collection: attach, measure, promote, roll back, backfill, retire."""

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from bebr.engine import Evaluation, Gate, UpgradeQuery
from bebr.errors import (
    AlreadyExists,
    BundleNotFound,
    Conflict,
    DamagedBundle,
    DimensionMismatch,
    Incompatible,
    InvalidOption,
    InvalidText,
    InvalidVector,
    Overloaded,
    VersionNotFound,
)
from bebr.server import requests, responses
from bebr.server.bodies import BINARY, JSON, read_body
from bebr.server.context import EngineOf, read_json
from bebr.server.frames import decode_frame
from bebr.server.openapi import COLLECTION, WRITES, Operation
from bebr.server.responses import json_response
from bebr.server.validation import at_fault

router = APIRouter(prefix="/v1/collections/{collection}/versions")
DEFAULT_SAMPLE = 300

LIST = Operation(
    "List versions",
    "versions",
    responses.Versions,
    errors=COLLECTION,
    description="With the points of each, what was measured, and what became active when.",
)
ATTACH = Operation(
    "Attach a version",
    "versions",
    responses.Versions,
    errors=(BundleNotFound, AlreadyExists, Incompatible, Conflict, DamagedBundle, *COLLECTION),
    body={JSON: requests.AttachVersion},
    status=201,
    description="A bundle becomes one more version of the collection. Nothing is searched or written by it until it is "
    "promoted. 409 where its queries could not search the codes that there are.",
)
EVALUATE = Operation(
    "Measure a version",
    "versions",
    responses.VersionEvaluation,
    errors=(VersionNotFound, Conflict, InvalidText, InvalidVector, DimensionMismatch, Overloaded, *COLLECTION),
    body={JSON: requests.EvaluateVersion},
    description="Old and new queries against old and new codes of a sample of the points: what promotion would give, "
    "and what a backfill would give. It is kept for the gate. Takes seconds to minutes, since the new model embeds the "
    "sample.",
)
PROMOTE = Operation(
    "Promote a version",
    "versions",
    responses.VersionEvent,
    errors=(VersionNotFound, Conflict, *COLLECTION),
    body={JSON: requests.PromoteVersion},
    description="Queries and writes go by it from now on; nothing is re-encoded. 409 with the numbers where the last "
    "evaluation does not pass the gate.",
)
ROLLBACK = Operation(
    "Undo the last promotion",
    "versions",
    responses.VersionEvent,
    errors=(Conflict, Incompatible, *COLLECTION),
    description="Points that were written or backfilled since keep their codes and are found.",
)
BACKFILL = Operation(
    "Backfill",
    "versions",
    responses.JobAccepted,
    errors=(VersionNotFound, Conflict, *COLLECTION),
    body={JSON: requests.Backfill},
    status=202,
    description="Re-encode all points as the active version, from the text in their metadata (`text_field`). "
    "`/v1/jobs/{job}` tells how far it is, pauses, resumes and cancels it.",
)
BACKFILL_VECTORS = Operation(
    "Backfill from vectors",
    "versions",
    responses.WriteReport,
    errors=(DimensionMismatch, InvalidVector, Incompatible, *WRITES),
    body={BINARY: None},
    description="Points that exist get codes of these vectors of the new model; their metadata stays. The body is a "
    "frame as of `/points/vectors`, without metadata.",
)
RETIRE = Operation(
    "Retire a version",
    "versions",
    responses.Versions,
    errors=(VersionNotFound, Conflict, *COLLECTION),
    description="409 while it is active or points have its codes. What was promoted over it can no longer be undone.",
)


@router.get("", **LIST.route_options())
async def list_versions(collection: str, engine: EngineOf) -> Response:
    return json_response(await engine.upgrading.describe(collection))


@router.post("", **ATTACH.route_options())
async def attach_version(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, requests.AttachVersion)
    with at_fault("bundle", BundleNotFound):
        return json_response(await engine.upgrading.attach(collection, body.bundle), 201)


@router.post("/evaluate", **EVALUATE.route_options())
async def evaluate_version(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, requests.EvaluateVersion)
    if body.queries is not None and body.sample is not None:
        raise InvalidOption("give 'queries' or a 'sample', not both", key="sample")
    queries = None if body.queries is None else [_query(query) for query in body.queries]
    how = Evaluation(queries, body.sample or DEFAULT_SAMPLE, body.points, body.adapter, body.seed)
    return json_response(await engine.upgrading.evaluate(collection, body.version, how))


@router.post("/promote", **PROMOTE.route_options())
async def promote_version(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, requests.PromoteVersion)
    gate = Gate(body.gate.min_gain)
    return json_response(await engine.upgrading.promote(collection, body.version, gate, body.force, body.adapter))


@router.post("/rollback", **ROLLBACK.route_options())
async def rollback_version(collection: str, engine: EngineOf) -> Response:
    return json_response(await engine.upgrading.rollback(collection))


@router.post("/backfill", **BACKFILL.route_options())
async def backfill(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, requests.Backfill)
    job = await engine.upgrading.backfill(collection, body.version, body.rate_limit)
    return json_response({"job": job}, 202, {"location": f"/v1/jobs/{job}"})


@router.post("/backfill/vectors", **BACKFILL_VECTORS.route_options())
async def backfill_vectors(
    collection: str,
    request: Request,
    engine: EngineOf,
    version: Annotated[str, Query(description="Id of the active version, whose model made the vectors.")],
) -> Response:
    body = await read_body(request.scope, request.receive, engine.limits.max_body_bytes, (BINARY,))
    frame = decode_frame(body)
    if any(metadata is not None for metadata in frame.metadata):
        raise InvalidOption("metadata does not apply: points keep what they have", key="metadata")
    report = await engine.upgrading.backfill_vectors(collection, version, frame.ids, frame.vectors)
    return json_response(report.to_json())


@router.delete("/{version}", **RETIRE.route_options())
async def retire_version(collection: str, version: str, engine: EngineOf) -> Response:
    return json_response(await engine.upgrading.retire(collection, version))


def _query(query: requests.JudgedQuery) -> UpgradeQuery:
    vectors = {version: np.array(vector, np.float32) for version, vector in (query.vectors or {}).items()}
    relevant = query.relevant
    grades = dict.fromkeys(relevant, 1.0) if isinstance(relevant, list) else relevant
    return UpgradeQuery(query.text, vectors, grades)
