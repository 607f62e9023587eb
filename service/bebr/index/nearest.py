"""The shortest way of a scan: embeddings that search all points of one version by adc, in one call of the kernel.

Most searches go it. It finds what `scan` and `probe` find, to the last bit; whatever needs more goes that way: filters,
thresholds, several versions, and files that are mapped. The best of all rows are scored again by their rescore codes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.arrays import Floats
from bebr.core.lists import ListRule
from bebr.core.scoring import DotQueries, RescoreQueries
from bebr.errors import DamagedSegment
from bebr.index.candidates import Candidates, Found
from bebr.index.probe import ListsHeld, ListsRead
from bebr.index.rescoring import cut
from bebr.index.scan_view import ScanView
from bebr.kernel import rescore


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
    rescore: RescoreQueries | None = None
    """The same for rescore codes, where no lists are kept; None: hits keep the scores of the scan."""
    candidates: Sequence[int] = ()
    """Of each query, how many are scored again."""

    def __len__(self) -> int:
        return len(self.embeddings)


class Nearest(NamedTuple):
    """What embeddings found. A tuple, since every search makes one."""

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


def rescored(
    view: ScanView, queries: EmbeddingQueries, waits: bool = False, note: Callable[[float], None] | None = None
) -> Nearest | None:
    """The same by finer scores. Without `waits` raises NotInMemory where rescore codes would have to be waited for.

    note: is told the seconds of processor time that the scan took.
    """
    selection, finer = view.of_version.get(queries.version), queries.rescore
    if selection is None or finer is None or len(view.of_version) > 1 or view.mapped:
        return None
    began = 0.0 if note is None else time.thread_time()
    of_scan = kernel.nearest_candidates(
        selection, queries.projection, queries.embeddings, max(queries.candidates), queries.added
    )
    if note is not None:
        note(time.thread_time() - began)
    sources, counts, hits = view.rescore[queries.version].sources, np.zeros(1, np.int64), []
    for query, (start, stop) in enumerate(pairwise(of_scan.starts.tolist())):
        own, most = slice(start, stop), queries.candidates[query]
        found = Candidates(of_scan.scores[own], of_scan.places[own], of_scan.rows[own])
        asked = RescoreQueries(finer.values[query : query + 1], finer.scales[query : query + 1])
        try:
            if len(found) > most:
                found = cut(view, found, most).at(slice(0, most))
            sources.add_scores(asked, found.places, found.rows, None, found.scores, counts, waits)
        except (DamagedSegment, rescore.DamagedRow):
            return None
        best, ids, _, damaged = view.native.best(found.scores, found.places, found.rows, queries.limit)
        if damaged >= 0:
            return None
        hits.append(Found(best, ids, [queries.version] * len(ids)))
    return Nearest(hits, None, None)
