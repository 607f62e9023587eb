"""Group: the best hits of the best groups, for searches with `group_by`."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from bebr.engine.search.query import Answer, RoutedQuery
from bebr.engine.search.rescore import group_candidates
from bebr.shards import Grouping

ScanGroups = Callable[[RoutedQuery, Grouping], Awaitable[Answer]]


async def group(routed: RoutedQuery, scan: ScanGroups) -> Answer:
    """The best `group_size` hits of each of the best `limit` groups, best first. A hit of several groups comes once.

    The first scan finds the groups and the best hit of each; the others of each are found by a second one. With rescore
    codes the first finds as many groups as there are candidates, and the second some candidates of each; which groups
    and which of their hits are best is said by the finer scores.
    """
    request, rescoring = routed.query.request, routed.rescoring
    grouping = Grouping(str(request.group_by), request.limit if rescoring is None else rescoring.candidates)
    answer = await scan(routed, grouping)
    if answer.found.ids and (request.group_size > 1 or rescoring is not None):
        second = replace(grouping, values=tuple(value for _, value in answer.found.groups), size=request.group_size)
        if rescoring is not None:
            second = replace(
                second,
                limit=request.limit,
                size=group_candidates(request),
                kept=request.group_size,
                threshold=rescoring.threshold,
            )
        answer = await scan(routed, second)
    first_places = {point_id: place for place, point_id in reversed(list(enumerate(answer.found.ids)))}
    found = answer.found.at(sorted(first_places.values()))
    return replace(answer, query=replace(answer.query, wanted=len(found.ids)), found=found)
