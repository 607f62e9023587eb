"""Reading points without a query: by id, page by page."""

from collections.abc import Sequence

from bebr.core.filters import Filter
from bebr.engine.collections.collection import Collection
from bebr.engine.cursors import read_scroll_cursor, write_scroll_cursor
from bebr.engine.projection import Wanted, project
from bebr.engine.results import Page, Point


async def get_points(
    collection: Collection, ids: Sequence[str], with_metadata: Wanted, with_code: bool
) -> tuple[list[Point], list[str]]:
    """-> (points in the order requested, ids that do not exist)."""
    distinct = list(dict.fromkeys(ids))
    found = await collection.fetch(distinct, metadata=with_metadata is not False, records=with_code)
    versions = collection.document.versions
    points = []
    for point_id in distinct:
        if (point := found.get(point_id)) is not None:
            metadata = project(point.metadata, with_metadata)
            points.append(Point(point_id, versions[point.version].id, metadata, point.record if with_code else None))
    return points, [point_id for point_id in distinct if point_id not in found]


async def scroll(
    collection: Collection, condition: Filter | None, limit: int, cursor: str | None, with_metadata: Wanted
) -> Page:
    """A page of points by ascending id, and the cursor of the next; points written meanwhile may or may not show."""
    points: list[Point] = []
    after = None if cursor is None else read_scroll_cursor(cursor)
    while len(points) < limit:
        wanted = limit - len(points)
        ids = await collection.shards.ids(condition, after, wanted)
        if not ids:
            return Page(points, None)
        page, _ = await get_points(collection, ids, with_metadata, with_code=False)
        points += page  # a point that was deleted since is missing: go on after it
        after = ids[-1]
    more = await collection.shards.ids(condition, after, 1)
    return Page(points, write_scroll_cursor(after) if more and after is not None else None)
