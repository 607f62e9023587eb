"""The shortest way of a scan: embeddings that search the points of one version by adc, in one call of the kernel.

Most searches go it. It finds what `scan`, `probe` and `rescoring` find, to the last bit; whatever needs more goes that
way: several versions, and groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.arrays import Floats
from bebr.core.filters import Filter
from bebr.core.lists import ListRule
from bebr.core.scoring import DotQueries, RescoreQueries
from bebr.index.candidates import Found
from bebr.index.probe import ListsHeld, ListsRead, cost
from bebr.index.scan_view import ScanView
from bebr.kernel.rescore import DamagedRow


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
    scanned: int
    """Rows that the scan finds per query, at least `limit`."""
    filters: tuple[Filter | None, ...] | None = None
    """One per query; None: none has one."""
    floors: NDArray[np.float32] | None = None
    """(queries,): what the scan scores less is no hit, which spares lists; None: all may be hits."""
    thresholds: Sequence[float] | None = None
    """Of each query, the lowest score of a hit that counts; None: all count."""
    rescore: RescoreQueries | None = None
    """The same for rescore codes; None: hits keep the scores of the scan."""
    candidates: NDArray[np.int64] | None = None
    """(queries,): how many rows are scored again, where they are."""
    lists: ListRule | None = None
    """How lists are read, where there are some; None: all rows are scored."""
    share: float = 1.0
    """What that costs, of what it costs to score all rows, about."""
    keeps: bool = False
    """Whether the queries that were scanned for are wanted."""

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
    seconds: float
    """Of processor time that the scan took; 0: nobody asked."""


def nearest(
    view: ScanView, queries: EmbeddingQueries, held: ListsHeld | None, *, waits: bool = False, measures: bool = False
) -> Nearest | None:
    """The hits of each query. held: the lists that it reads by its rule; None: all rows are scored.

    None: the parts are not all of this version, a rescore code or an id is damaged, or some queries read lists and
    others all that their filters leave. Raises DamagedRows where codes of mapped files are damaged; without `waits`
    NotInMemory where rescore codes would be waited for.
    """
    selection = view.of_version.get(queries.version)
    if selection is None or len(view.of_version) > 1:
        return None
    reading, read, filtering, finer = None, None, kernel.ALL_ROWS, None
    if held is not None and (rule := queries.lists) is not None:
        matching, is_whole = cost(view.parts, queries.filters or (None,) * len(queries), held)
        if not is_whole.any():
            reading = kernel.Reading(rule.deltas, rule.stop_at, matching // 2)
        elif is_whole.all():
            read = ListsRead(held, np.zeros(len(queries), np.int64), matching, is_whole)
        else:
            return None
    if queries.filters is not None or queries.floors is not None:
        filtering = _filtering(view, queries)
    if queries.rescore is not None and queries.candidates is not None:
        finer = kernel.Finer(view.rescore[queries.version].sources, queries.rescore, queries.candidates, waits)
    try:
        answer = kernel.nearest(
            selection,
            queries.projection,
            queries.embeddings,
            queries.scanned,
            queries.added,
            reading,
            filtering,
            finer,
            limit=queries.limit,
            keeps=queries.keeps,
            measures=measures,
        )
    except DamagedRow:
        return None
    if max([one.damaged for one in answer.found]) >= 0:
        return None
    found = [Found(one.scores, one.ids, [queries.version] * len(one.ids)) for one in answer.found]
    if (thresholds := queries.thresholds) is not None:
        found = [one.raised(0.0, threshold) for one, threshold in zip(found, thresholds, strict=True)]
    if held is not None and answer.lists is not None and answer.rows is not None:
        read = ListsRead(held, answer.lists, answer.rows, np.zeros(len(queries), np.bool_))
    return Nearest(found, read, answer.queries, answer.seconds)


def _filtering(view: ScanView, queries: EmbeddingQueries) -> kernel.Filtering:
    filters = queries.filters or ()
    conditions = list(dict.fromkeys([condition for condition in filters if condition is not None]))
    masks = [view.masks(queries.version, condition) for condition in conditions]
    if not masks or len(filters) == 1:
        return kernel.Filtering(masks, None, queries.floors)
    numbers: dict[Filter | None, int] = {condition: number for number, condition in enumerate(conditions)}
    of_query = [numbers.get(condition, -1) for condition in filters]
    return kernel.Filtering(masks, np.array(of_query, np.int32), queries.floors)
