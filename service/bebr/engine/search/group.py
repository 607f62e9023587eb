"""Group: the best hits of the best groups, for searches with `group_by`."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from bebr.engine.search.query import Answer, RoutedQuery
from bebr.shards import Grouping

ScanGroups = Callable[[RoutedQuery, Grouping], Awaitable[Answer]]


async def group(routed: RoutedQuery, scan: ScanGroups) -> Answer:
    """The best `group_size` hits of each of the best `limit` groups, best first. A hit of several groups comes once.

    The first scan finds the groups and the best hit of each; the others of each are found by a second one.
    """
    request = routed.query.request
    grouping = Grouping(str(request.group_by), request.limit)
    answer = await scan(routed, grouping)
    if request.group_size > 1 and answer.found.ids:
        values = tuple(value for _, value in answer.found.groups)
        answer = await scan(routed, replace(grouping, values=values, size=request.group_size))
    first_places = {point_id: place for place, point_id in reversed(list(enumerate(answer.found.ids)))}
    found = answer.found.at(sorted(first_places.values()))
    return replace(answer, query=replace(answer.query, wanted=len(found.ids)), found=found)
