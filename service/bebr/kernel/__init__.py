"""Exact scans over blocked codes, in C++: the only native code of the service. Knows nothing of points, files or HTTP.

*Blocked* codes: 16 consecutive rows form a group. Each block of the CodeSpec is padded to whole 32-bit words, and word
`w` of row `r` lies at uint32 index `(r // 16) * words * 16 + w * 16 + r % 16`: one SIMD lane is one row.

`dot_top_k` and `hamming_top_k` return what `bebr.core.scoring` and a stable sort would, to the last bit: best first,
ties by ascending row. A NaN score is never returned, and a score of -0 comes back as 0. Each call runs on the calling
thread with the GIL released; any number of threads may scan the same arrays, also while `pack` writes later rows.

Arguments are checked here once. Wrong queries or codes raise a `bebr.errors` class, since they may come from a request;
arrays of a wrong dtype or size raise ValueError, since only a bug can make them.
"""

import os
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.core.scoring import DotQueries, HammingQueries
from bebr.errors import DimensionMismatch, InvalidCode, InvalidOption
from bebr.kernel import _kernel

GROUP_ROWS = 16
"""Rows that lie interleaved; a mask has one uint16 for each such group."""
ISA_VARIABLE = "BEBR_KERNEL_ISA"
MAX_ROWS = 2**32

Masks = Sequence[NDArray[np.uint16]]


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
    _select_isa()
    layout = _layout(spec)
    count = len(queries.values)
    if queries.values.shape != (count, spec.dims) or queries.scales.shape != (count, len(spec.blocks)):
        raise DimensionMismatch(
            f"expected query values of shape (queries, {spec.dims}) and scales of shape (queries, {len(spec.blocks)}) "
            f"for '{spec}', got {queries.values.shape} and {queries.scales.shape}"
        )
    _check(queries.values, np.int8, "query values")
    _check(queries.scales, np.float32, "query scales")
    _check_rows(blocked, rows, layout, k)
    _check(gains, np.float16, "gains", rows)
    checked_masks = _check_masks(masks, mask_of_query, rows, count)
    if floors is not None:
        _check(floors, np.float32, "floors", count)
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
    _select_isa()
    layout = _layout(spec)
    count = len(queries.codes)
    _check_codes(queries.codes, spec)
    _check_rows(blocked, rows, layout, k)
    checked_masks = _check_masks(masks, mask_of_query, rows, count)
    if ceilings is not None:
        _check(ceilings, np.int32, "ceilings", count)
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
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k best rows of each label, for one query of sdc or adc.

    codes: (at least rows,) int32, the label of each row, 0 up to `labels`; below 0: none. With `starts` (rows + 1,)
    int64 a row has several: those of the items starts[row] .. starts[row + 1] of `codes`.
    wanted: of how many labels, the best ones, the result is needed; with k = 1 others may be left out.
    Returns scores (labels, k) float32 and items (labels, k) int64, which are rows where there are no `starts`; best
    first, ties by ascending item, padded with -inf and -1. The other arguments are those of `dot_top_k`.
    """
    _select_isa()
    layout = _layout(spec)
    if query.values.shape != (1, spec.dims) or query.scales.shape != (1, len(spec.blocks)):
        raise DimensionMismatch(f"expected one query for '{spec}', got {query.values.shape} and {query.scales.shape}")
    _check(query.values, np.int8, "query values")
    _check(query.scales, np.float32, "query scales")
    _check_rows(blocked, rows, layout, k)
    _check(gains, np.float16, "gains", rows)
    masks = _check_masks(None if mask is None else [mask], None, rows, 1)
    _check_labels(codes, starts, rows)
    scores, items = np.empty((labels, k), np.float32), np.empty((labels, k), np.int64)
    _kernel.dot_top_labels(
        layout, blocked, gains.view(np.uint16), rows, query.values, query.scales, masks, floor, codes, starts, wanted,
        scores, items,
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
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The k nearest rows of each label, for one query; arguments and results are as of `dot_top_labels`, with distances
    (labels, k) int32 padded with 2^31 - 1."""
    _select_isa()
    layout = _layout(spec)
    _check_codes(query.codes, spec)
    _check_rows(blocked, rows, layout, k)
    masks = _check_masks(None if mask is None else [mask], None, rows, 1)
    _check_labels(codes, starts, rows)
    distances, items = np.empty((labels, k), np.int32), np.empty((labels, k), np.int64)
    _kernel.hamming_top_labels(
        layout, blocked, rows, query.codes[:1], masks, ceiling, codes, starts, wanted, distances, items
    )
    return distances, items


def pack(codes: NDArray[np.uint8], spec: CodeSpec, blocked: NDArray[np.uint8], first_row: int) -> None:
    """Write codes (rows, code_size_bytes) uint8 to the rows first_row.. of `blocked`.

    Changes no byte of any other row, so that readers may scan earlier rows meanwhile.

    Raises InvalidCode on a wrong shape.
    """
    layout = _layout(spec)
    _check_codes(codes, spec)
    if first_row < 0:
        raise ValueError(f"first_row must not be negative, got {first_row}")
    _check_blocked(blocked, first_row + len(codes), layout)
    _kernel.pack(layout, codes, blocked, first_row)


def unpack(blocked: NDArray[np.uint8], spec: CodeSpec, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The codes of `rows` (n,) int64, in any order: (n, code_size_bytes) uint8."""
    layout = _layout(spec)
    _check(rows, np.int64, "rows")
    codes = np.empty((len(rows), spec.code_size_bytes), np.uint8)
    if len(rows):
        if int(rows.min()) < 0:
            raise ValueError(f"rows must not be negative, got {int(rows.min())}")
        _check_blocked(blocked, int(rows.max()) + 1, layout)
        _kernel.unpack(layout, blocked, rows, codes)
    return codes


def blocked_size_bytes(spec: CodeSpec, rows: int) -> int:
    """Size of the blocked codes of `rows` rows: whole groups, each block padded to 32-bit words."""
    return _layout(spec).blocked_size_bytes(rows)


def allocate(size_bytes: int) -> NDArray[np.uint8]:
    """Zeroed bytes (size_bytes,) uint8 for blocked codes, aligned to 64; from 2 MB on in large pages where possible."""
    return _kernel.allocate(size_bytes)


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


def isa() -> str:
    """The instruction set in use: 'avx512', 'avx2' or 'portable'.

    It is the best that this machine has, unless the environment variable BEBR_KERNEL_ISA names another one.
    Raises InvalidOption when that one is unknown or not supported here.
    """
    _select_isa()
    return _kernel.isa()


@cache
def _select_isa() -> None:
    """Obey BEBR_KERNEL_ISA, read when the kernel is first used."""
    wanted = os.environ.get(ISA_VARIABLE)
    if wanted and not _kernel.use_isa(wanted):
        supported = ", ".join(_kernel.supported_isas())
        raise InvalidOption(f"{ISA_VARIABLE} is '{wanted}', but this machine supports: {supported}", at=ISA_VARIABLE)


@lru_cache(maxsize=1024)
def _layout(spec: CodeSpec) -> _kernel.Layout:
    return _kernel.Layout([(block.dims, block.bits) for block in spec.blocks])


def _check(array: NDArray[np.generic], dtype: type[np.generic], name: str, size: int = 0) -> None:
    """Raise ValueError unless the array is C-contiguous, of that dtype and at least `size` long."""
    if array.dtype != dtype or not array.flags.c_contiguous or len(array) < size:
        raise ValueError(
            f"{name}: expected a C-contiguous array of {dtype.__name__} of at least {size}, "
            f"got {array.dtype} of shape {array.shape}"
        )


def _check_codes(codes: NDArray[np.uint8], spec: CodeSpec) -> None:
    if codes.ndim != 2 or codes.shape[1] != spec.code_size_bytes:
        raise InvalidCode(f"expected codes of shape (rows, {spec.code_size_bytes}) for '{spec}', got {codes.shape}")
    _check(codes, np.uint8, "codes")


def _check_blocked(blocked: NDArray[np.uint8], rows: int, layout: _kernel.Layout) -> None:
    _check(blocked, np.uint8, "blocked", layout.blocked_size_bytes(rows))
    if blocked.ctypes.data % 64:
        raise ValueError("blocked codes must be aligned to 64 bytes; use bebr.kernel.allocate")


def _check_rows(blocked: NDArray[np.uint8], rows: int, layout: _kernel.Layout, k: int) -> None:
    if not 0 <= rows <= MAX_ROWS:
        raise ValueError(f"rows must be between 0 and {MAX_ROWS}, got {rows}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    _check_blocked(blocked, rows, layout)


def _check_labels(codes: NDArray[np.int32], starts: NDArray[np.int64] | None, rows: int) -> None:
    if starts is None:
        _check(codes, np.int32, "codes", rows)
        return
    _check(starts, np.int64, "starts", rows + 1)
    _check(codes, np.int32, "codes", int(starts[rows]))


def _check_masks(
    masks: Masks | None, mask_of_query: NDArray[np.int32] | None, rows: int, queries: int
) -> list[NDArray[np.uint16]]:
    checked = list(masks or ())
    for mask in checked:
        _check(mask, np.uint16, "mask", -(-rows // GROUP_ROWS))
    if mask_of_query is not None:
        _check(mask_of_query, np.int32, "mask_of_query", queries)
        if len(mask_of_query) and not -1 <= int(mask_of_query.min()) <= int(mask_of_query.max()) < len(checked):
            raise ValueError(f"mask_of_query must lie between -1 and {len(checked) - 1}")
    elif len(checked) > 1:
        raise ValueError(f"{len(checked)} masks need a mask_of_query")
    return checked
