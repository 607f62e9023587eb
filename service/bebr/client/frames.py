"""Points whose vectors or records are rows of one array, as flows: they are sent in binary frames."""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bebr.client import wire
from bebr.client.collections import collection_path
from bebr.client.points import BATCH_POINTS, after, write_request
from bebr.client.results import NOTHING_WRITTEN, WriteReport
from bebr.client.steps import Flow, Request
from bebr.core.types import WriteMode

BATCH_BYTES = 16 * 2**20
"""Maximum size of the rows of a batch, well below the default limit of a request body."""


def upsert_vectors(
    collection: str,
    ids: Sequence[str],
    vectors: ArrayLike,
    metadata: Sequence[Mapping[str, Any] | None] | None = None,
    *,
    mode: WriteMode | str = WriteMode.UPSERT,
    version: str | None = None,
    batch_points: int = 10 * BATCH_POINTS,
    idempotency_key: str | None = None,
) -> Flow[WriteReport]:
    """Write vectors (points, dims) in binary frames: the fastest way to write your own vectors.

    version: code version whose model made them; raises Incompatible if another version is active.
    """
    ids = wire.a_list(ids, "ids")
    metadata = None if metadata is None else wire.a_list(metadata, "metadata", "{'lang': 'en'}")
    matrix = wire.rows(ids, vectors, metadata)
    path, key = f"{collection_path(collection)}/points/vectors", idempotency_key or uuid.uuid4().hex

    def write(body: bytes, first: int) -> Request:
        return write_request(path, body, mode, version, f"{key}-{first}", wire.FRAME_TYPE)

    return (yield from _write_rows(write, {"dims": matrix.shape[1]}, ids, matrix, metadata, batch_points))


def upsert_records(
    collection: str,
    ids: Sequence[str],
    records: NDArray[np.uint8],
    metadata: Sequence[Mapping[str, Any] | None] | None = None,
    *,
    code: str,
    fingerprint: str | None,
    mode: WriteMode | str = WriteMode.UPSERT,
    version: str | None = None,
    batch_points: int = 10 * BATCH_POINTS,
    idempotency_key: str | None = None,
) -> Flow[WriteReport]:
    """Write records (points, record_size_bytes) uint8 that were made elsewhere, as by `bebr encode`.

    code: the layout of their codes. fingerprint: of the bundle that made them; None where no bundle did. Raises
    Incompatible unless both are those of the active version.
    """
    ids = wire.a_list(ids, "ids")
    metadata = None if metadata is None else wire.a_list(metadata, "metadata", "{'lang': 'en'}")
    matrix = wire.record_rows(ids, records, metadata)
    path, key = f"{collection_path(collection)}/points/records", idempotency_key or uuid.uuid4().hex

    def write(body: bytes, first: int) -> Request:
        return write_request(path, body, mode, version, f"{key}-{first}", wire.FRAME_TYPE)

    header = {"code": code, "fingerprint": fingerprint}
    return (yield from _write_rows(write, header, ids, matrix, metadata, batch_points))


def _write_rows(
    write: Callable[[bytes, int], Request],
    header: Mapping[str, Any],
    ids: Sequence[str],
    matrix: NDArray[Any],
    metadata: Sequence[Any] | None,
    batch_points: int,
) -> Flow[WriteReport]:
    """Rows (points, width) in frames. write: a request of a body, and the position of its first row."""
    report = NOTHING_WRITTEN
    for page in vector_pages(matrix, batch_points):
        some, items = ids[page], None if metadata is None else metadata[page]
        positions, errors = wire.sound_rows(some, items)
        part = WriteReport(0, len(errors), errors, {})
        if positions:
            rows = matrix[page]
            if errors:
                some, rows = [some[position] for position in positions], rows[positions]
                items = None if items is None else [items[position] for position in positions]
            body = wire.frame(header, some, rows, items)
            with after(report, page.start, positions):
                written = yield write(body, page.start)
            part = WriteReport.from_json(written.json()).joined(positions, errors)
        report = report.followed_by(part, page.start)
    return report


def vector_pages(matrix: NDArray[Any], batch_points: int) -> Iterator[slice]:
    """The batches of matrix (points, width): at most `batch_points` rows each, none too large for a request body."""
    step = max(1, min(batch_points, BATCH_BYTES // max(1, matrix.shape[1] * matrix.itemsize)))
    return (slice(first, first + step) for first in range(0, len(matrix), step))
