"""Names and arithmetic of float arrays that every layer uses."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Floats64 = NDArray[np.float64]

TINY = np.float32(1e-12)
"""The least length to divide by, so that a row of zeros gives zeros and no NaN."""


def unit(rows: Floats) -> Floats:
    """rows (rows, dims) float32 -> the same scaled to length one; a row of zeros stays as it is."""
    scaled: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY)
    return scaled
