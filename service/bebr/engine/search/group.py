"""Group: the best hits of the best groups, for searches with `group_by`."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from bebr.engine.search.query import Answer, RoutedQuery
from bebr.engine.search.rescore import group_candidates
from bebr.shards import Found, Grouping

ScanGroups = Callable[[RoutedQuery, Grouping], Awaitable[Answer]]


async def group(routed: RoutedQuery, scan: ScanGroups) -> Answer:
    """The best `group_size` hits of each of the best `limit` groups, best first. A hit of several groups comes once.

    The first scan finds the groups and the best hit of each; the others of each are found by a second one. With rescore
    codes the first finds as many groups as there are candidates, and the second some candidates of each; which groups
    and which of their hits are best is said by the finer scores.
    """
    answer = await scan(routed, first_grouping(routed))
    if (second := second_grouping(routed, answer.found)) is not None:
        answer = await scan(routed, second)
    first_places = {point_id: place for place, point_id in reversed(list(enumerate(answer.found.ids)))}
    found = answer.found.at(sorted(first_places.values()))
    return replace(answer, query=replace(answer.query, wanted=len(found.ids)), found=found)


def first_grouping(routed: RoutedQuery) -> Grouping:
    """What the first scan finds."""
    request, rescoring = routed.query.request, routed.rescoring
    return Grouping(str(request.group_by), request.limit if rescoring is None else rescoring.candidates)


def second_grouping(routed: RoutedQuery, found: Found) -> Grouping | None:
    """What the second scan finds after the hits of the first; None: these are the answer."""
    request, rescoring = routed.query.request, routed.rescoring
    if not found.ids or (request.group_size == 1 and rescoring is None):
        return None
    values = tuple(value for _, value in found.groups)
    second = replace(first_grouping(routed), values=values, size=request.group_size)
    if rescoring is None:
        return second
    kept, size = request.group_size, group_candidates(request)
    return replace(second, limit=request.limit, size=size, kept=kept, threshold=rescoring.threshold)
