"""The grid that codes lie on: half-odd numbers -half + 0.5 .. half - 0.5, half being half the levels."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.core.codes import CodeSpec

UNIT_STEPS = {1: 0.7979, 2: 0.4979, 3: 0.293, 4: 0.1676, 5: 0.09405, 6: 0.05205, 7: 0.02845, 8: 0.0154}
"""Steps of the uniform grid with least square error for a Gaussian of variance one (Max, 1960), by bits."""
UNIT_ERRORS = (1.0, 0.3634, 0.1188, 0.03744, 0.01154, 0.003495, 0.001041, 0.0003035, 0.0000871)
"""The square errors of these grids, by bits; the first is that of no bits at all."""


def half_levels(spec: CodeSpec) -> Floats:
    """(dims,) float32: half the number of levels of every dimension."""
    return cast(Floats, (spec.max_levels.astype(np.float32) + np.float32(1)) * np.float32(0.5))


def grid_points(values: NDArray[Any], halves: Floats) -> Floats:
    """values (rows, dims) -> the nearest grid points, within -half + 0.5 .. half - 0.5."""
    return cast(Floats, np.minimum(np.maximum(np.floor(values), -halves), halves - 1) + np.float32(0.5))
