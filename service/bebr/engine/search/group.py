"""Group: the best hits of the best groups, for searches with `group_by`."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from bebr.core.types import StoredPoint
from bebr.engine.collections.collection import Collection
from bebr.engine.search.query import Answer, RoutedQuery

Rescan = Callable[[RoutedQuery], Awaitable[Answer]]


async def group(collection: Collection, routed: RoutedQuery, answer: Answer, rescan: Rescan, max_limit: int) -> Answer:
    """The best `group_size` hits of each of the best `limit` groups, best first; scans deeper while groups are missing.

    answer: that of `routed`. rescan: answers the same query with another `wanted`.
    """
    request, wanted = routed.query.request, routed.query.wanted
    while True:
        ids = answer.found.ids
        members = _members(await collection.fetch(ids), ids, str(request.group_by), request.group_size)
        best = list(members.values())[: request.limit]
        is_full = len(best) == request.limit and all(len(hits) == request.group_size for hits in best)
        if is_full or len(ids) < wanted or wanted >= max_limit:
            chosen = sorted({position for hits in best for position in hits})
            return replace(answer, found=answer.found.at(chosen))
        wanted = min(4 * wanted, max_limit)
        answer = await rescan(replace(routed, query=replace(routed.query, wanted=wanted)))


def _members(points: Mapping[str, StoredPoint], ids: list[str], key: str, size: int) -> dict[Any, list[int]]:
    """Value of the field -> positions of its best `size` hits; the values in the order of their best hit."""
    members: dict[Any, list[int]] = {}
    for position, point_id in enumerate(ids):
        for value in _values(points.get(point_id), key):
            if len(hits := members.setdefault(value, [])) < size:
                hits.append(position)
    return members


def _values(point: StoredPoint | None, key: str) -> list[Any]:
    """The distinct values of a metadata field."""
    value = json.loads(point.metadata).get(key) if point is not None else None
    values = value if isinstance(value, list) else [value]
    return [item for item in dict.fromkeys(values) if item is not None]
