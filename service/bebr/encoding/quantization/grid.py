"""The grid that codes lie on: half-odd numbers -half + 0.5 .. half - 0.5, half being half the levels."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.core.codes import CodeSpec

UNIT_STEPS = {1: 0.7979, 2: 0.4979, 4: 0.1676}
"""Steps of the uniform grid with least square error for a Gaussian of variance one (Max, 1960), by bits."""


def half_levels(spec: CodeSpec) -> Floats:
    """(dims,) float32: half the number of levels of every dimension."""
    return cast(Floats, (spec.max_levels.astype(np.float32) + np.float32(1)) * np.float32(0.5))


def grid_points(values: NDArray[Any], halves: Floats) -> Floats:
    """values (rows, dims) -> the nearest grid points, within -half + 0.5 .. half - 0.5."""
    return cast(Floats, np.minimum(np.maximum(np.floor(values), -halves), halves - 1) + np.float32(0.5))
