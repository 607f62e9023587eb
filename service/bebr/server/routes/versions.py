"""Code versions of a collection: attach, measure, promote, roll back, backfill, retire."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from bebr.engine import EvaluationRequest, Gate, UpgradeQuery
from bebr.engine.inputs import read_vector
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
from bebr.server.access import Access
from bebr.server.bodies.body import BINARY, JSON, read_body
from bebr.server.bodies.frames import read_frame
from bebr.server.context import EngineOf, JobsOf, read_batch, read_json
from bebr.server.openapi import COLLECTION, WRITES, Operation
from bebr.server.requests.versions import (
    DEFAULT_SAMPLE,
    AttachVersion,
    Backfill,
    EvaluateVersion,
    JudgedQuery,
    PromoteVersion,
)
from bebr.server.responses.base import json_response
from bebr.server.responses.jobs import JobAccepted
from bebr.server.responses.points import WriteReport
from bebr.server.responses.versions import Promotion, Rollback, VersionEvaluation, Versions
from bebr.server.validation import at_fault

router = APIRouter(prefix="/v1/collections/{collection}/versions")

LIST = Operation(
    "List versions",
    "versions",
    Versions,
    access=Access.READ,
    errors=COLLECTION,
    description="With the points of each, past evaluations, and the history of promotions.",
)
ATTACH = Operation(
    "Attach a version",
    "versions",
    Versions,
    errors=(BundleNotFound, AlreadyExists, Incompatible, Conflict, DamagedBundle, *COLLECTION),
    body={JSON: AttachVersion},
    status=201,
    description="Add a bundle as one more version of the collection. It is not used for searches or writes until it is "
    "promoted. Incompatible if its queries cannot search existing codes.",
)
EVALUATE = Operation(
    "Evaluate a version",
    "versions",
    VersionEvaluation,
    errors=(VersionNotFound, Conflict, InvalidText, InvalidVector, DimensionMismatch, Overloaded, *COLLECTION),
    body={JSON: EvaluateVersion},
    body_required=False,
    description="Searches a sample of the points with old and new queries, against old and new codes: what a promotion "
    "would bring, and what a backfill would. The result is kept for the gate. Takes seconds to minutes: the new model "
    "embeds the sample.",
)
PROMOTE = Operation(
    "Promote a version",
    "versions",
    Promotion,
    errors=(VersionNotFound, Conflict, *COLLECTION),
    body={JSON: PromoteVersion},
    description="Queries and writes use it from now on; nothing is re-encoded. Conflict, with the metrics, if the last "
    "evaluation does not pass the gate.",
)
ROLLBACK = Operation(
    "Undo the last promotion",
    "versions",
    Rollback,
    errors=(Conflict, Incompatible, *COLLECTION),
    description="Points written or backfilled since then keep their codes and are still found.",
)
BACKFILL = Operation(
    "Backfill",
    "versions",
    JobAccepted,
    errors=(VersionNotFound, Conflict, *COLLECTION),
    body={JSON: Backfill},
    body_required=False,
    status=202,
    description="Re-encode all points as the active version, from the text in their metadata (`text_field`). "
    "The routes of jobs show its progress, pause, resume and cancel it.",
)
BACKFILL_VECTORS = Operation(
    "Backfill from vectors",
    "versions",
    WriteReport,
    errors=(DimensionMismatch, InvalidVector, Incompatible, *WRITES),
    body={BINARY: None},
    description="Existing points get codes made from these vectors of the new model; their metadata is kept. The body "
    "is a frame as for `/points/vectors`, without metadata.",
)
RETIRE = Operation(
    "Retire a version",
    "versions",
    Versions,
    errors=(VersionNotFound, Conflict, *COLLECTION),
    description="Conflict while it is active or points have its codes. A promotion away from it can no longer be "
    "undone.",
)


@router.get("", **LIST.route_options())
async def list_versions(collection: str, engine: EngineOf) -> Response:
    await engine.keep_up(collection)
    return json_response(Versions.of(engine.versions.describe(collection)))


@router.post("", **ATTACH.route_options())
async def attach_version(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, AttachVersion)
    with at_fault("bundle", BundleNotFound):
        versions = await engine.versions.attach(collection, body.bundle)
    return json_response(Versions.of(versions), 201)


@router.post("/evaluate", **EVALUATE.route_options())
async def evaluate_version(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_batch(request, EvaluateVersion, "queries", JudgedQuery)
    if body.queries is not None and body.sample is not None:
        raise InvalidOption("give 'queries' or a 'sample', not both", key="sample")
    how = EvaluationRequest(
        queries=None if body.queries is None else await asyncio.to_thread(_queries, body.queries),
        sample=body.sample or DEFAULT_SAMPLE,
        points=body.points,
        adapter=body.adapter,
        seed=body.seed,
    )
    evaluation = await engine.evaluator.evaluate(collection, body.version, how)
    return json_response(VersionEvaluation.of(evaluation))


@router.post("/promote", **PROMOTE.route_options())
async def promote_version(collection: str, request: Request, engine: EngineOf) -> Response:
    body = await read_json(request, PromoteVersion)
    gate = Gate(body.gate.min_gain)
    event = await engine.versions.promote(collection, body.version, gate, force=body.force, adapter=body.adapter)
    return json_response(Promotion.of(event))


@router.post("/rollback", **ROLLBACK.route_options())
async def rollback_version(collection: str, engine: EngineOf) -> Response:
    return json_response(Rollback.of(await engine.versions.rollback(collection)))


@router.post("/backfill", **BACKFILL.route_options())
async def backfill(collection: str, request: Request, jobs: JobsOf) -> Response:
    body = await read_json(request, Backfill)
    job = await jobs.backfill.submit(collection, body.version, body.rate_limit)
    return json_response(JobAccepted(job=job), 202, {"location": f"/v1/jobs/{job}"})


@router.post("/backfill/vectors", **BACKFILL_VECTORS.route_options())
async def backfill_vectors(
    collection: str,
    request: Request,
    engine: EngineOf,
    version: Annotated[str, Query(description="Id of the active version, whose model made the vectors.")],
) -> Response:
    body = await read_body(request.scope, request.receive, engine.limits.max_body_bytes, (BINARY,))
    frame = await read_frame(body)
    if any(metadata is not None for metadata in frame.metadata):
        raise InvalidOption("metadata does not apply: points keep theirs", key="metadata")
    report = await engine.backfill_vectors(collection, version, frame.ids, frame.vectors)
    return json_response(WriteReport.of(report))


@router.delete("/{version}", **RETIRE.route_options())
async def retire_version(collection: str, version: str, engine: EngineOf) -> Response:
    return json_response(Versions.of(await engine.versions.retire(collection, version)))


def _queries(queries: list[JudgedQuery]) -> list[UpgradeQuery]:
    return [_query(query) for query in queries]


def _query(query: JudgedQuery) -> UpgradeQuery:
    vectors = {version: read_vector(vector) for version, vector in (query.vectors or {}).items()}
    relevant = query.relevant
    grades = dict.fromkeys(relevant, 1.0) if isinstance(relevant, list) else relevant
    return UpgradeQuery(query.text, vectors, grades)
