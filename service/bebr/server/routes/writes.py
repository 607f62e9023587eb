"""Writing points: as JSON, as NDJSON, as a binary frame of vectors, or as a bulk job."""

import asyncio
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from bebr.core.decoding import json_lines, parse_line
from bebr.core.types import WriteMode
from bebr.engine import results
from bebr.engine.write.records import GivenRecords
from bebr.errors import (
    BebrError,
    Conflict,
    DimensionMismatch,
    IdempotencyConflict,
    Incompatible,
    InvalidCode,
    InvalidOption,
    InvalidSpec,
    InvalidVector,
    Malformed,
)
from bebr.server.bodies.body import (
    BINARY,
    JSON,
    NDJSON,
    check_content_type,
    content_type,
    declared_size,
    declares_gzip,
    read_body,
    stream_body,
)
from bebr.server.bodies.frames import read_frame, read_record_frame
from bebr.server.bodies.large_bodies import WHOLE_BYTES, parse_items
from bebr.server.context import EngineOf, JobsOf, idempotency_key
from bebr.server.openapi import WRITES, Operation
from bebr.server.requests.points import Point, WritePoints
from bebr.server.responses.base import json_response
from bebr.server.responses.jobs import JobAccepted
from bebr.server.responses.points import WriteReport

router = APIRouter(prefix="/v1/collections/{collection}")
DeclaredVersion = Annotated[
    str | None,
    Query(
        description="Id of the version that vectors and codes belong to (+ as %2B). Refused if another one is active."
    ),
]

WRITE = Operation(
    "Write points",
    "points",
    WriteReport,
    errors=(Incompatible, IdempotencyConflict, *WRITES),
    body={JSON: WritePoints, NDJSON: Point},
    idempotent=True,
    description="Valid points are applied, `items` names the others. Once answered, the points are durable and the "
    "next search sees them. As `application/x-ndjson`: one point per line.",
)
WRITE_VECTORS = Operation(
    "Write vectors in a binary frame",
    "points",
    WriteReport,
    errors=(DimensionMismatch, InvalidVector, Incompatible, IdempotencyConflict, *WRITES),
    body={BINARY: None},
    idempotent=True,
    description="The fast way to write many vectors. The body: 8 bytes with the size of the header (unsigned, "
    'little-endian); the header, JSON `{"dims", "count", "ids": [...], "metadata": [...] | null}` (schema '
    "`FrameHeader`); then count * dims little-endian float32 values, row by row. Spaces after the header may align the "
    "rows.",
)
WRITE_RECORDS = Operation(
    "Write records in a binary frame",
    "points",
    WriteReport,
    errors=(DimensionMismatch, InvalidCode, InvalidSpec, Incompatible, IdempotencyConflict, *WRITES),
    body={BINARY: None},
    idempotent=True,
    description="Points that were encoded elsewhere, as `bebr encode` does. The body is that of `/points/vectors`, but "
    'its header says in place of `dims` what made the records: `{"code": "256x2", "fingerprint": "..." | null, '
    '"count", "ids", "metadata"}` (schema `RecordsHeader`). Then come count whole records: the code and its float16 '
    "gain, and where there is a rescore code, that and its gain. Refused unless the active version has codes of that "
    "layout, made by the bundle of that fingerprint.",
)
INGEST = Operation(
    "Ingest in bulk",
    "jobs",
    JobAccepted,
    status=202,
    errors=(Conflict, *WRITES),
    body={NDJSON: Point},
    description="NDJSON of any length, one point per line. It is streamed to disk, then a job applies it. Vectors and "
    "codes belong to the version that is active now; they are rejected once a version of another model is active. "
    "`/v1/jobs/{job}/errors` lists rejected lines. If an id is repeated, the last line wins.",
)


@router.post("/points", **WRITE.route_options())
async def write_points(
    collection: str,
    request: Request,
    engine: EngineOf,
    mode: WriteMode = WriteMode.UPSERT,
    version: DeclaredVersion = None,
) -> Response:
    limits = engine.limits
    body = await read_body(request.scope, request.receive, limits.max_body_bytes, (JSON, NDJSON))
    key = idempotency_key(request)
    if content_type(dict(request.scope["headers"])) == JSON:
        parsed = await parse_items(WritePoints, body, "points", limits.max_batch_points)
        report = await engine.write_points(collection, parsed.points, mode, idempotency_key=key, version=version)
        return json_response(WriteReport.of(report))
    parse_lines = partial(_parse_lines, body, limits.max_batch_points)
    points, positions, broken = await asyncio.to_thread(parse_lines) if len(body) > WHOLE_BYTES else parse_lines()
    try:
        report = await engine.write_points(collection, points, mode, idempotency_key=key, version=version)
    except BebrError as error:
        raise _moved(error, positions, broken) from error
    return json_response(WriteReport.of(_join(report, positions, broken)))


@router.post("/points/vectors", **WRITE_VECTORS.route_options())
async def write_vectors(
    collection: str,
    request: Request,
    engine: EngineOf,
    mode: WriteMode = WriteMode.UPSERT,
    version: DeclaredVersion = None,
) -> Response:
    body = await read_body(request.scope, request.receive, engine.limits.max_body_bytes, (BINARY,))
    frame = await read_frame(body)
    report = await engine.write_vectors(
        collection,
        frame.ids,
        frame.vectors,
        frame.metadata,
        mode=mode,
        idempotency_key=idempotency_key(request),
        version=version,
    )
    return json_response(WriteReport.of(report))


@router.post("/points/records", **WRITE_RECORDS.route_options())
async def write_records(
    collection: str,
    request: Request,
    engine: EngineOf,
    mode: WriteMode = WriteMode.UPSERT,
    version: DeclaredVersion = None,
) -> Response:
    body = await read_body(request.scope, request.receive, engine.limits.max_body_bytes, (BINARY,))
    frame = await read_record_frame(body)
    report = await engine.write_records(
        collection,
        frame.ids,
        GivenRecords(frame.records, frame.spec, frame.fingerprint),
        frame.metadata,
        mode=mode,
        idempotency_key=idempotency_key(request),
        version=version,
    )
    return json_response(WriteReport.of(report))


@router.post("/ingest", **INGEST.route_options())
async def ingest(
    collection: str,
    request: Request,
    jobs: JobsOf,
    mode: WriteMode = WriteMode.UPSERT,
    version: DeclaredVersion = None,
) -> Response:
    headers = dict(request.scope["headers"])
    check_content_type(headers, (NDJSON,))
    job = await jobs.ingest.submit(
        collection,
        stream_body(request.receive),
        gzip=declares_gzip(headers),
        mode=mode,
        expected_bytes=declared_size(headers),
        version=version,
    )
    return json_response(JobAccepted(job=job), 202, {"location": f"/v1/jobs/{job}"})


def _parse_lines(body: bytes, max_points: int) -> tuple[list[Any], list[int], list[results.ItemError]]:
    """NDJSON -> points, the position of each among all lines that are not blank, and the lines that do not parse."""
    points: list[Any] = []
    positions: list[int] = []
    broken: list[results.ItemError] = []
    lines = json_lines(body)
    if len(lines) > max_points:
        raise InvalidOption(
            f"at most {max_points} points in one request, got {len(lines)}; use /ingest for more", key="points"
        )
    for position, line in enumerate(lines):
        try:
            points.append(parse_line(line))
            positions.append(position)
        except Malformed as error:
            broken.append(results.ItemError(position, None, type(error).__name__, error.detail))
    return points, positions, broken


def _moved(error: BebrError, positions: list[int], broken: list[results.ItemError]) -> BebrError:
    """An error that names points (engine.write.outcome) by their position among those that parsed -> among all."""
    if "items" not in error.fields:
        return error
    items = [item | {"index": positions[item["index"]]} for item in error.fields["items"]]
    items += [asdict(item) | {"outcome": "not_applied"} for item in broken]
    counted = {"not_applied": error.fields["not_applied"] + len(broken)}
    fields = error.fields | counted | {"items": sorted(items, key=lambda item: item["index"])}
    return type(error)(error.detail, **fields)


def _join(report: results.WriteReport, positions: list[int], broken: list[results.ItemError]) -> results.WriteReport:
    """The engine's report on the points that parsed -> a report on all that were sent."""
    if not broken:
        return report
    moved = [results.ItemError(positions[item.index], item.id, item.error, item.detail) for item in report.items]
    items = sorted(moved + broken, key=lambda item: item.index)
    return results.WriteReport(report.applied, report.rejected + len(broken), items, report.seq)
