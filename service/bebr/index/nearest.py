"""The shortest way of a scan: embeddings that search all points of one version by adc, in one call of the kernel.

Most searches go it. It finds what `scan` finds, to the last bit; whatever needs more goes that way: filters,
thresholds, rescore codes, several versions, lists, and files that are mapped.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.arrays import Floats
from bebr.index.candidates import Found
from bebr.index.scan_view import ScanView


@dataclass(frozen=True, slots=True)
class EmbeddingQueries:
    """Embeddings against the codes of one version."""

    version: int
    """Number of the code version."""
    embeddings: Floats
    """(queries, dims), length one."""
    projection: kernel.Projection
    """Into the version's code space."""
    added: NDArray[np.float64] | None
    """(queries,): what the scan leaves out of every score of the query; None: nothing."""
    limit: int
    """Hits per query."""

    def __len__(self) -> int:
        return len(self.embeddings)


def nearest(view: ScanView, queries: EmbeddingQueries) -> list[Found] | None:
    """The hits of each query. None: the parts are not all of this version and scanned whole, or an id is damaged."""
    selection = view.of_version.get(queries.version)
    if selection is None or len(view.of_version) > 1 or not view.is_plain:
        return None
    found = kernel.nearest(selection, queries.projection, queries.embeddings, queries.limit, queries.added)
    if max([one.damaged for one in found]) >= 0:
        return None
    return [Found(one.scores, one.ids, [queries.version] * len(one.ids)) for one in found]
