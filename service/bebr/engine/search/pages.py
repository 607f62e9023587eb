"""Pages of a search that reads lists: no hit comes twice, and none that a later page reads is lost.

A search for more hits reads more lists, and may find a hit there that is better than those of the pages before. So hits
are found in *blocks*, whose ends depend on `limit` only: those of a block are the best hits for its end that no block
before it has. A hit that was missed before comes first in the next block, so that a score may rise there.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from bebr.engine.search.query import Answer, RoutedQuery
from bebr.shards import Found

BLOCK_GROWTH = 4
"""Times as far as the block before, each block ends."""
Scan = Callable[[list[RoutedQuery]], Awaitable[list[Answer]]]


def is_paged(one: RoutedQuery) -> bool:
    """Whether hits of pages before are skipped."""
    return one.probing is not None and one.query.offset > 0


async def paged(one: RoutedQuery, maximum: int, scan: Scan) -> Answer:
    """The hits of all pages up to this one. maximum: of hits that are skipped and shown."""
    ids, scores, versions = list[str](), list[float](), list[int]()
    taken: set[str] = set()
    assert one.probing is not None, "it reads lists"
    end, stop_at = max(one.query.request.limit, 1), one.probing.stop_at
    while True:
        (answer,) = await scan([_block(one, end, stop_at)])
        found = answer.found
        new = [place for place, point_id in enumerate(found.ids[:end]) if point_id not in taken][: end - len(ids)]
        ids += [found.ids[place] for place in new]
        scores += [found.scores[place] for place in new]
        versions += [found.versions[place] for place in new]
        taken.update(ids)
        if end >= one.query.wanted or len(found.ids) < end:  # no more match
            return replace(answer, query=one.query, found=Found(scores, ids, versions))
        end, stop_at = min(BLOCK_GROWTH * end, maximum), BLOCK_GROWTH * stop_at


def _block(one: RoutedQuery, end: int, stop_at: int) -> RoutedQuery:
    assert one.probing is not None, "it reads lists"
    rescoring = None if one.rescoring is None else replace(one.rescoring, skipped=0, wanted=end)
    return replace(
        one,
        query=replace(one.query, offset=0, wanted=end),
        rescoring=rescoring,
        probing=replace(one.probing, stop_at=stop_at),
    )
