"""Reading points without a query: by id, page by page, counted."""

import base64
import json
from collections.abc import Sequence
from typing import Any

from bebr.engine.collections.collection import Collection
from bebr.engine.cursors import read_scroll_cursor, write_scroll_cursor


async def get_points(
    collection: Collection, ids: Sequence[str], with_metadata: bool | list[str], with_code: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """-> (points in the order asked for, ids that do not exist)."""
    distinct = list(dict.fromkeys(ids))
    found = await collection.fetch(distinct, metadata=with_metadata is not False, records=with_code)
    versions = collection.document.versions
    points = []
    for point_id in distinct:
        if (point := found.get(point_id)) is None:
            continue
        entry: dict[str, Any] = {"id": point.id, "version": versions[point.version].id}
        if with_metadata is not False:
            metadata = json.loads(point.metadata)
            if isinstance(with_metadata, list):
                metadata = {key: metadata[key] for key in with_metadata if key in metadata}
            entry["metadata"] = metadata
        if with_code:
            entry["code_b64"] = base64.b64encode(point.record).decode()
        points.append(entry)
    return points, [point_id for point_id in distinct if point_id not in found]


async def scroll(
    collection: Collection, filter: object, limit: int, cursor: str | None, with_metadata: bool | list[str]
) -> dict[str, Any]:
    """A page of points by ascending id, and the cursor of the next; points written meanwhile may or may not show."""
    condition = collection.parse_filter(filter)
    points: list[dict[str, Any]] = []
    after = None if cursor is None else read_scroll_cursor(cursor)
    while len(points) < limit:
        wanted = limit - len(points)
        ids = await collection.shards.ids(condition, after, wanted)
        if not ids:
            return {"points": points, "cursor": None}
        page, _ = await get_points(collection, ids, with_metadata, False)
        points += page  # a point that was deleted since is missing, so look further
        after = ids[-1]
    more = await collection.shards.ids(condition, after, 1)
    return {"points": points, "cursor": write_scroll_cursor(after) if more and after is not None else None}
