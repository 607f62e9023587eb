"""The shortest way of a scan: embeddings that search all points of one version by adc, in one call of the kernel.

Most searches go it. It finds what `scan` and `probe` find, to the last bit; whatever needs more goes that way: filters,
thresholds, rescore codes, several versions, and files that are mapped.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.arrays import Floats
from bebr.core.lists import ListRule
from bebr.core.scoring import DotQueries
from bebr.index.candidates import Found
from bebr.index.probe import ListsHeld, ListsRead
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
    """Hits per query, the largest that any of them wants."""
    lists: ListRule | None = None
    """How lists are read, where there are some; None: all rows are scored."""
    share: float = 1.0
    """About which share of the rows is read so."""
    keeps: bool = False
    """Whether the queries that were scanned for are wanted."""

    def __len__(self) -> int:
        return len(self.embeddings)


@dataclass(frozen=True, slots=True)
class Nearest:
    """What embeddings found."""

    found: list[Found]
    """The hits of each query."""
    lists: ListsRead | None
    """What was read of the lists; None: all rows were scored."""
    queries: DotQueries | None
    """What was scanned for; None: nobody asked."""


def nearest(view: ScanView, queries: EmbeddingQueries, held: ListsHeld | None) -> Nearest | None:
    """The hits of each query. held: the lists that it reads by its rule; None: all rows are scored.

    None: the parts are not all of this version and in memory, or an id is damaged.
    """
    selection = view.of_version.get(queries.version)
    if selection is None or len(view.of_version) > 1 or view.mapped:
        return None
    reading, rule = None, queries.lists
    if held is not None and rule is not None:
        flat_rows = np.full(len(queries), held.rows // 2, np.int64)
        reading = kernel.Reading(rule.deltas, rule.stop_at, flat_rows)
    answer = kernel.nearest(
        selection, queries.projection, queries.embeddings, queries.limit, queries.added, reading, keeps=queries.keeps
    )
    if max([one.damaged for one in answer.found]) >= 0:
        return None
    found = [Found(one.scores, one.ids, [queries.version] * len(one.ids)) for one in answer.found]
    read = None
    if held is not None and answer.lists is not None and answer.rows is not None:
        read = ListsRead(held, answer.lists, answer.rows, np.zeros(len(queries), np.bool_))
    return Nearest(found, read, answer.queries)
