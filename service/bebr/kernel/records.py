"""Records of points from their levels, as `bebr.core.codes` makes them, to the bit."""

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.errors import InvalidCode
from bebr.kernel import _kernel
from bebr.kernel.checks import check, layout_of


def write_records(
    levels: NDArray[np.uint8],
    gains: NDArray[np.float16],
    spec: CodeSpec,
    records: NDArray[np.uint8],
    first_byte: int = 0,
) -> bool:
    """What `join_records` makes of packed levels (rows, dims) uint8 and gains (rows,) float16, from `first_byte` of
    each of `records` (rows, size) uint8 on. False: a level is out of range; records then hold anything.
    """
    _check(levels, gains, np.float16, spec)
    check(records, np.uint8, "records", len(levels))
    if not 0 <= first_byte <= records.shape[1] - spec.scan_record_size_bytes:
        raise ValueError(f"records of {records.shape[1]} bytes have no room for '{spec}' at byte {first_byte}")
    return _kernel.write_records(layout_of(spec), levels, gains.view(np.uint16), records, first_byte)


def represent(
    levels: NDArray[np.uint8], gains: NDArray[np.float16], spec: CodeSpec, steps: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What `code_values` makes of the scan codes of such records: (rows, dims) float32."""
    wide = gains.astype(np.float32)
    _check(levels, wide, np.float32, spec)
    check(steps, np.float32, "steps", len(spec.blocks))
    values = np.empty(levels.shape, np.float32)
    _kernel.represent(layout_of(spec), levels, wide, steps, values)
    return values


def _check(levels: NDArray[np.uint8], gains: NDArray[np.floating], dtype: type[np.floating], spec: CodeSpec) -> None:
    if levels.ndim != 2 or levels.shape[1] != spec.dims:
        raise InvalidCode(f"expected levels of shape (rows, {spec.dims}) for '{spec}', got {levels.shape}")
    check(levels, np.uint8, "levels", len(gains))
    check(gains, dtype, "gains", len(levels))
