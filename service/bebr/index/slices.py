"""Slices: a few rows of a part, scanned as a part is, so that a long scan can be done a little at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.codes import CodeSpec
from bebr.core.filters import Filter
from bebr.index.candidates import Part

SLICE_ROWS = 4096
"""A multiple of `kernel.GROUP_ROWS`."""


@dataclass(frozen=True, slots=True)
class PartSlice:
    """Consecutive rows of a part."""

    first: int
    """Row of the part that it begins with, a multiple of `kernel.GROUP_ROWS`."""
    rows: int
    spec: CodeSpec
    blocked: NDArray[np.uint8]
    gains: NDArray[np.float16]
    live: NDArray[np.uint16]
    """Mask of its rows that count."""
    has_dead = True

    def mask(self, condition: Filter) -> NDArray[np.uint16]:
        """What is filtered is out of `live` already."""
        return self.live


def slices_of(part: Part, mask: NDArray[np.uint16]) -> Iterator[PartSlice]:
    """All rows of a part for which the mask holds; slices without any are left out."""
    groups = SLICE_ROWS // kernel.GROUP_ROWS
    for first in range(0, part.rows, SLICE_ROWS):
        rows = min(SLICE_ROWS, part.rows - first)
        group = first // kernel.GROUP_ROWS
        live = mask[group : group + groups]
        if live.any():
            start, stop = (kernel.blocked_size_bytes(part.spec, end) for end in (first, first + rows))
            gains = part.gains[first : first + rows]
            yield PartSlice(first, rows, part.spec, part.blocked[start:stop], gains, live)
