"""The checks of what is handed to the kernel, once at its border, and what is kept for each CodeSpec.

Wrong queries or codes raise a `bebr.errors` class, since they may come from a request; arrays of a wrong dtype or size
raise ValueError, since only a bug can make them.
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


@cache
def select_isa() -> None:
    """Obey BEBR_KERNEL_ISA, read when the kernel is first used."""
    wanted = os.environ.get(ISA_VARIABLE)
    if wanted and not _kernel.use_isa(wanted):
        supported = ", ".join(_kernel.supported_isas())
        raise InvalidOption(f"{ISA_VARIABLE} is '{wanted}', but this machine supports: {supported}", at=ISA_VARIABLE)


@lru_cache(maxsize=1024)
def layout_of(spec: CodeSpec) -> _kernel.Layout:
    return _kernel.Layout([(block.dims, block.bits) for block in spec.blocks])


def check(array: NDArray[np.generic], dtype: type[np.generic], name: str, size: int = 0) -> None:
    """Raise ValueError unless the array is C-contiguous, of that dtype and at least `size` long."""
    found = array.dtype  # its type is compared faster than itself
    if found.type is not dtype or not found.isnative or not array.flags.c_contiguous or len(array) < size:
        raise ValueError(
            f"{name}: expected a C-contiguous array of {dtype.__name__} of at least {size}, "
            f"got {array.dtype} of shape {array.shape}"
        )


def check_codes(codes: NDArray[np.uint8], spec: CodeSpec) -> None:
    if codes.ndim != 2 or codes.shape[1] != spec.code_size_bytes:
        raise InvalidCode(f"expected codes of shape (rows, {spec.code_size_bytes}) for '{spec}', got {codes.shape}")
    check(codes, np.uint8, "codes")


def check_blocked(blocked: NDArray[np.uint8], rows: int, layout: _kernel.Layout) -> None:
    check(blocked, np.uint8, "blocked", layout.blocked_size_bytes(rows))
    if blocked.ctypes.data % 64:
        raise ValueError("blocked codes must be aligned to 64 bytes; use bebr.kernel.allocate")


def check_rows(blocked: NDArray[np.uint8], rows: int, layout: _kernel.Layout, k: int) -> None:
    if not 0 <= rows <= MAX_ROWS:
        raise ValueError(f"rows must be between 0 and {MAX_ROWS}, got {rows}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    check_blocked(blocked, rows, layout)


def check_labels(
    codes: NDArray[np.int32], starts: NDArray[np.int64] | None, rows: int, ranks: NDArray[np.uint32] | None = None
) -> None:
    if ranks is not None:
        check(ranks, np.uint32, "ranks", rows)
    if starts is None:
        check(codes, np.int32, "codes", rows)
        return
    check(starts, np.int64, "starts", rows + 1)
    check(codes, np.int32, "codes", int(starts[rows]))


def check_masks(
    masks: Masks | None, mask_of_query: NDArray[np.int32] | None, rows: int, queries: int
) -> list[NDArray[np.uint16]]:
    checked = list(masks or ())
    for mask in checked:
        check(mask, np.uint16, "mask", -(-rows // GROUP_ROWS))
    if mask_of_query is not None:
        check(mask_of_query, np.int32, "mask_of_query", queries)
        if len(mask_of_query) and not -1 <= int(mask_of_query.min()) <= int(mask_of_query.max()) < len(checked):
            raise ValueError(f"mask_of_query must lie between -1 and {len(checked) - 1}")
    elif len(checked) > 1:
        raise ValueError(f"{len(checked)} masks need a mask_of_query")
    return checked


def check_dot_queries(queries: DotQueries, spec: CodeSpec) -> int:
    """How many queries there are. Raises DimensionMismatch."""
    count = len(queries.values)
    if queries.values.shape != (count, spec.dims) or queries.scales.shape != (count, len(spec.blocks)):
        raise DimensionMismatch(
            f"expected query values of shape (queries, {spec.dims}) and scales of shape (queries, {len(spec.blocks)}) "
            f"for '{spec}', got {queries.values.shape} and {queries.scales.shape}"
        )
    check(queries.values, np.int8, "query values")
    check(queries.scales, np.float32, "query scales")
    return count


def check_hamming_queries(queries: HammingQueries, spec: CodeSpec) -> int:
    """How many queries there are. Raises InvalidCode."""
    check_codes(queries.codes, spec)
    return len(queries.codes)
