"""Exact scans over blocked codes, in C++: the only native code of the service. Knows nothing of points, files or HTTP.

*Blocked* codes: 16 consecutive rows form a group. Each block of the CodeSpec is padded to whole 32-bit words, and word
`w` of row `r` lies at uint32 index `(r // 16) * words * 16 + w * 16 + r % 16`: one SIMD lane is one row.

`dot_top_k` and `hamming_top_k` return what `bebr.core.scoring` and a stable sort would, to the last bit: best first,
ties by ascending row. A NaN score is never returned, and a score of -0 comes back as 0. Each call runs on the calling
thread with the GIL released; any number of threads may scan the same arrays, also while `pack` writes later rows.

Arguments are checked here once. Wrong queries or codes raise a `bebr.errors` class, since they may come from a request;
arrays of a wrong dtype or size raise ValueError, since only a bug can make them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.core.codes import CodeSpec
from bebr.core.scoring import DotQueries, HammingQueries
from bebr.errors import DimensionMismatch
from bebr.kernel import _kernel
from bebr.kernel.checks import (
    GROUP_ROWS,
    ISA_VARIABLE,
    MAX_ROWS,
    Masks,
    check,
    check_blocked,
    check_codes,
    check_dot_queries,
    check_hamming_queries,
    check_labels,
    check_masks,
    check_rows,
    layout_of,
    select_isa,
)
from bebr.kernel.lists import CentroidTable, accumulate, assign, best_queries, centroid_scores, list_candidates
from bebr.kernel.parts import Candidates, Parts, Selection, dot_candidates, hamming_candidates
from bebr.kernel.pieces import DamagedRows, Pieces, lost_pages
from bebr.kernel.projection import ALL_ROWS, Filtering, Finer, Nearest, NearestOfAll, Projection, Reading, nearest

__all__ = [
    "ALL_ROWS",
    "GROUP_ROWS",
    "ISA_VARIABLE",
    "MAX_ROWS",
    "Candidates",
    "CentroidTable",
    "DamagedRows",
    "Filtering",
    "Finer",
    "Masks",
    "Nearest",
    "NearestOfAll",
    "Parts",
    "Pieces",
    "Projection",
    "Reading",
    "Selection",
    "accumulate",
    "allocate",
    "assign",
    "best_queries",
    "blocked_size_bytes",
    "centroid_scores",
    "decode_base64",
    "dot_candidates",
    "dot_top_k",
    "dot_top_labels",
    "hamming_candidates",
    "hamming_top_k",
    "hamming_top_labels",
    "isa",
    "list_candidates",
    "lost_pages",
    "map_file",
    "nearest",
    "normalize",
    "pack",
    "project",
    "quantize",
    "read_ids",
    "unpack",
]


def dot_top_k(
    blocked: NDArray[np.uint8],
    gains: NDArray[np.float16],
    rows: int,
    spec: CodeSpec,
    queries: DotQueries,
    k: int,
    masks: Masks | None = None,
    mask_of_query: NDArray[np.int32] | None = None,
    floors: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k best rows of each query by sdc or adc.

    blocked: at least `blocked_size_bytes(spec, rows)` bytes. gains: (at least rows,) float16.
    masks: each (ceil(rows / 16),) uint16, bit i of word g represents row 16 * g + i.
    mask_of_query: (queries,) int32, an index into `masks`, or -1 for all rows; without it, masks[0] is for all queries.
    floors: (queries,) float32; only rows that score at least this much.
    Returns scores (queries, k) float32 and rows (queries, k) int64, padded with -inf and -1.
    Raises DimensionMismatch when the queries do not fit the spec.
    """
    select_isa()
    layout = layout_of(spec)
    count = check_dot_queries(queries, spec)
    check_rows(blocked, rows, layout, k)
    check(gains, np.float16, "gains", rows)
    checked_masks = check_masks(masks, mask_of_query, rows, count)
    if floors is not None:
        check(floors, np.float32, "floors", count)
    scores = np.empty((count, k), np.float32)
    found = np.empty((count, k), np.int64)
    _kernel.dot_top_k(
        layout, blocked, gains.view(np.uint16), rows, queries.values, queries.scales, checked_masks, mask_of_query,
        floors, scores, found,
    )  # fmt: skip
    return scores, found


def hamming_top_k(
    blocked: NDArray[np.uint8],
    rows: int,
    spec: CodeSpec,
    queries: HammingQueries,
    k: int,
    masks: Masks | None = None,
    mask_of_query: NDArray[np.int32] | None = None,
    ceilings: NDArray[np.int32] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The k nearest rows of each query by the distance of their sign planes.

    ceilings: (queries,) int32; only rows at most this far. The other arguments are those of `dot_top_k`.
    Returns distances (queries, k) int32 and rows (queries, k) int64, padded with 2^31 - 1 and -1.
    Raises InvalidCode when the queries do not fit the spec.
    """
    select_isa()
    layout = layout_of(spec)
    count = check_hamming_queries(queries, spec)
    check_rows(blocked, rows, layout, k)
    checked_masks = check_masks(masks, mask_of_query, rows, count)
    if ceilings is not None:
        check(ceilings, np.int32, "ceilings", count)
    distances = np.empty((count, k), np.int32)
    found = np.empty((count, k), np.int64)
    _kernel.hamming_top_k(
        layout, blocked, rows, queries.codes, checked_masks, mask_of_query, ceilings, distances, found
    )
    return distances, found


def dot_top_labels(
    blocked: NDArray[np.uint8],
    gains: NDArray[np.float16],
    rows: int,
    spec: CodeSpec,
    query: DotQueries,
    k: int,
    mask: NDArray[np.uint16] | None,
    floor: float,
    *,
    codes: NDArray[np.int32],
    starts: NDArray[np.int64] | None,
    labels: int,
    wanted: int,
    ranks: NDArray[np.uint32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k best rows of each label, for one query of sdc or adc.

    codes: (at least rows,) int32, the label of each row, 0 up to `labels`; below 0: none. With `starts` (rows + 1,)
    int64 a row has several: those of the items starts[row] .. starts[row + 1] of `codes`.
    wanted: of how many labels, the best ones, the result is needed; with k = 1 others may be left out.
    ranks: (at least rows,) uint32; rows that tie come in ascending order of theirs, not of their own.
    Returns scores (labels, k) float32 and items (labels, k) int64, which are rows where there are no `starts`; best
    first, ties by ascending item, padded with -inf and -1. The other arguments are those of `dot_top_k`.
    """
    select_isa()
    layout = layout_of(spec)
    if query.values.shape != (1, spec.dims) or query.scales.shape != (1, len(spec.blocks)):
        raise DimensionMismatch(f"expected one query for '{spec}', got {query.values.shape} and {query.scales.shape}")
    check(query.values, np.int8, "query values")
    check(query.scales, np.float32, "query scales")
    check_rows(blocked, rows, layout, k)
    check(gains, np.float16, "gains", rows)
    masks = check_masks(None if mask is None else [mask], None, rows, 1)
    check_labels(codes, starts, rows, ranks)
    scores, items = np.empty((labels, k), np.float32), np.empty((labels, k), np.int64)
    _kernel.dot_top_labels(
        layout, blocked, gains.view(np.uint16), rows, query.values, query.scales, masks, floor, codes, starts, wanted,
        ranks, scores, items,
    )  # fmt: skip
    return scores, items


def hamming_top_labels(
    blocked: NDArray[np.uint8],
    rows: int,
    spec: CodeSpec,
    query: HammingQueries,
    k: int,
    mask: NDArray[np.uint16] | None,
    ceiling: int,
    *,
    codes: NDArray[np.int32],
    starts: NDArray[np.int64] | None,
    labels: int,
    wanted: int,
    ranks: NDArray[np.uint32] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The k nearest rows of each label, for one query; arguments and results are as of `dot_top_labels`, with distances
    (labels, k) int32 padded with 2^31 - 1."""
    select_isa()
    layout = layout_of(spec)
    check_codes(query.codes, spec)
    check_rows(blocked, rows, layout, k)
    masks = check_masks(None if mask is None else [mask], None, rows, 1)
    check_labels(codes, starts, rows, ranks)
    distances, items = np.empty((labels, k), np.int32), np.empty((labels, k), np.int64)
    _kernel.hamming_top_labels(
        layout, blocked, rows, query.codes[:1], masks, ceiling, codes, starts, wanted, ranks, distances, items
    )
    return distances, items


def pack(codes: NDArray[np.uint8], spec: CodeSpec, blocked: NDArray[np.uint8], first_row: int) -> None:
    """Write codes (rows, code_size_bytes) uint8 to the rows first_row.. of `blocked`.

    Changes no byte of any other row, so that readers may scan earlier rows meanwhile.

    Raises InvalidCode on a wrong shape.
    """
    layout = layout_of(spec)
    check_codes(codes, spec)
    if first_row < 0:
        raise ValueError(f"first_row must not be negative, got {first_row}")
    check_blocked(blocked, first_row + len(codes), layout)
    _kernel.pack(layout, codes, blocked, first_row)


def unpack(blocked: NDArray[np.uint8], spec: CodeSpec, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The codes of `rows` (n,) int64, in any order: (n, code_size_bytes) uint8."""
    layout = layout_of(spec)
    check(rows, np.int64, "rows")
    codes = np.empty((len(rows), spec.code_size_bytes), np.uint8)
    if len(rows):
        if int(rows.min()) < 0:
            raise ValueError(f"rows must not be negative, got {int(rows.min())}")
        check_blocked(blocked, int(rows.max()) + 1, layout)
        _kernel.unpack(layout, blocked, rows, codes)
    return codes


def blocked_size_bytes(spec: CodeSpec, rows: int) -> int:
    """Size of the blocked codes of `rows` rows: whole groups, each block padded to 32-bit words."""
    return layout_of(spec).blocked_size_bytes(rows)


def allocate(size_bytes: int) -> NDArray[np.uint8]:
    """Zeroed bytes (size_bytes,) uint8 for blocked codes, aligned to 64; from 2 MB on in large pages where possible."""
    return _kernel.allocate(size_bytes)


def normalize(vector: Floats, lowest: float, highest: float) -> Floats | None:
    """vector (dims,) float32 -> (1, dims) float32 of length one; None: its squared length is not within the bounds."""
    if not vector.flags.c_contiguous:
        vector = np.ascontiguousarray(vector)
    unit = np.empty((1, len(vector)), np.float32)
    return unit if _kernel.normalize(vector, lowest, highest, unit) else None


def decode_base64(text: str) -> bytes | None:
    """What `binascii.a2b_base64(text, strict_mode=True)` returns, in a tenth of the time; None: it is no base64, or its
    padding is not what it needs."""
    return _kernel.decode_base64(text)


def map_file(path: str) -> NDArray[np.uint8]:
    """The bytes of a file (size,) uint8, mapped, for arrays that are read rarely; no descriptor stays open.

    The array is read-only. What is cut off from the file reads as zeros from then on. Raises OSError.
    """
    return _kernel.map_file(path)


def read_ids(
    offsets: NDArray[np.uint64], blob: NDArray[np.uint8], lookup: NDArray[np.uint64], rows: Sequence[int]
) -> list[str]:
    """The strings of these rows of a table, see `bebr.index.strings`. ValueError where one has not its hash."""
    return _kernel.read_ids(offsets, blob, lookup, rows)


def project(rows: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """rows (n, size) float32 times matrix (size, dims) float32 -> (n, dims) float32.

    Every sum is made in one order, term by term: a row has the same product alone and among others, on every machine.
    """
    select_isa()
    check(rows, np.float32, "rows")
    check(matrix, np.float32, "matrix")
    if rows.ndim != 2 or matrix.ndim != 2 or rows.shape[1] != len(matrix):
        raise DimensionMismatch(f"expected rows of {len(matrix)} numbers, got {rows.shape}")
    projected = np.empty((len(rows), matrix.shape[1]), np.float32)
    _kernel.project(rows, matrix, projected)
    return projected


def quantize(projected: NDArray[np.float32], spec: CodeSpec, steps: NDArray[np.float32]) -> DotQueries:
    """What `scoring.prepare_adc` makes of projected (queries, dims) float32 and steps (blocks,) float32."""
    layout = layout_of(spec)
    check(projected, np.float32, "projected")
    check(steps, np.float32, "steps", len(spec.blocks))
    if projected.ndim != 2 or projected.shape[1] != spec.dims:
        raise DimensionMismatch(f"expected queries of {spec.dims} dims for '{spec}', got {projected.shape}")
    values = np.empty(projected.shape, np.int8)
    scales = np.empty((len(projected), len(spec.blocks)), np.float32)
    _kernel.quantize(layout, projected, steps, values, scales)
    return DotQueries(values, scales)


def isa() -> str:
    """The instruction set in use: 'avx512', 'avx2' or 'portable'.

    It is the best that this machine has, unless the environment variable BEBR_KERNEL_ISA names another one.
    Raises InvalidOption when that one is unknown or not supported here.
    """
    select_isa()
    return _kernel.isa()
