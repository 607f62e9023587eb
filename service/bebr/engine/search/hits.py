"""What answers show of their hits, metadata and codes as far as they were requested: fetched, and measured."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from bebr.config import Limits
from bebr.core.types import Hit, StoredPoint
from bebr.engine.answers import HIT_BYTES, INLINE_BYTES, PAGE_IDS, AnswerSize, size_of, size_of_all
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version
from bebr.engine.projection import Wanted, project
from bebr.engine.requests import SearchRequest
from bebr.engine.search.query import Answer
from bebr.shards import Found

INLINE_HITS = 256
"""Results of more hits are written down in a thread."""
FEW_IDS = 32
"""Hits that are fetched at a time of searches that run together."""
Points = Mapping[str, StoredPoint]
"""What was fetched of the hits, by id."""


async def fetch(collection: Collection, answers: Sequence[Answer], limits: Limits) -> Points:
    """What the answers show of their hits, by id."""
    ids: dict[str, None] = {}
    metadata = records = False
    for answer in answers:
        if shows_points(request := answer.query.request):
            ids |= dict.fromkeys(answer.found.ids)
            metadata |= request.with_metadata is not False
            records |= request.with_code
    if len(collection.document.versions) > 1:
        collection.hot_points.count([point_id for answer in answers for point_id in answer.found.ids])
    if not ids:
        return {}
    if len(ids) <= PAGE_IDS:
        return await fetch_few(collection, list(ids), len(answers), metadata=metadata, records=records)
    return await _fetch_pages(collection, limits, list(ids), metadata, records, common_projection(answers))


async def _fetch_pages(
    collection: Collection, limits: Limits, ids: list[str], metadata: bool, records: bool, wanted: Wanted
) -> Points:
    """Many points, without holding more of them than one answer may. Raises AnswerTooLarge."""
    size = AnswerSize(limits.max_answer_bytes)
    points: dict[str, StoredPoint] = {}
    for start in range(0, len(ids), PAGE_IDS):
        page = await collection.fetch(ids[start : start + PAGE_IDS], metadata=metadata, records=records)
        if metadata and not isinstance(wanted, bool):
            page = await asyncio.to_thread(projected, page, wanted)
        for point in page.values():
            size.add(size_of(point.metadata, point.record))
        points |= page
    return points


async def fetch_few(
    collection: Collection, ids: Sequence[str], searches: int, *, metadata: bool, records: bool = False
) -> Points:
    """Points of the hits of searches: of several as few at a time as of each alone, which needs no thread."""
    if searches == 1:
        return await collection.fetch(ids, metadata=metadata, records=records)
    fetch_page = partial(collection.fetch, metadata=metadata, records=records)
    found = collection.at_hand(ids) if metadata and not records else {}
    ids = [point_id for point_id in ids if point_id not in found]
    pages = [fetch_page(ids[start : start + FEW_IDS]) for start in range(0, len(ids), FEW_IDS)]
    for page in [await pages[0]] if len(pages) == 1 else await asyncio.gather(*pages):
        found |= page
    return found


def shows_points(request: SearchRequest) -> bool:
    return request.with_metadata is not False or request.with_code


def is_large(answers: Sequence[Answer], points: Points) -> bool:
    """Whether the results take longer to write down than the event loop can spare."""
    if len(points) <= INLINE_HITS and len(answers) == 1:
        return sum([len(point.metadata) for point in points.values()]) > INLINE_BYTES
    return sum([len(answer.found.ids) for answer in answers]) > INLINE_HITS


def is_much_to_project(requests: Sequence[SearchRequest], points: Points) -> bool:
    """Whether some fields of much metadata are wanted: to read them takes longer than the event loop can spare."""
    if {type(request.with_metadata) for request in requests} == {bool}:  # most searches
        return False
    return sum([len(point.metadata) for point in points.values()]) > INLINE_BYTES


def common_projection(answers: Sequence[Answer]) -> Wanted:
    """The metadata fields that all answers want; True where they want different ones."""
    wanted = answers[0].query.request.with_metadata
    return wanted if all(answer.query.request.with_metadata == wanted for answer in answers) else True


def projected(points: Points, wanted: Wanted) -> dict[str, StoredPoint]:
    return {point_id: p._replace(metadata=project(p.metadata, wanted) or "") for point_id, p in points.items()}


def hits_of(
    request: SearchRequest, found: Found, points: Points, versions: Sequence[Version], size: AnswerSize
) -> list[Hit]:
    """The hits as the caller sees them; points that were deleted since the scan are left out."""
    shows = shows_points(request)
    if request.with_metadata is True and not request.with_code and found.distances is None:  # most searches
        ids = [version.id for version in versions]
        rows = zip(found.ids, found.scores, found.versions, strict=True)
        shown = [(i, score, ids[n], points[i].metadata, None, None) for i, score, n in rows if i in points]
        plain = Hit.of_rows(shown)
        size.add(size_of_all([hit.metadata for hit in plain]))
        return plain
    if not shows and found.distances is None:
        size.add(len(found.ids) * HIT_BYTES)
        rows = zip(found.ids, found.scores, found.versions, strict=True)
        return Hit.of_rows([(i, score, versions[number].id, None, None, None) for i, score, number in rows])
    hits = []
    distances: Sequence[int | None] = found.distances or [None] * len(found.ids)
    for point_id, score, number, distance in zip(found.ids, found.scores, found.versions, distances, strict=False):
        point, code = points.get(point_id), None
        if shows and point is None:
            continue
        metadata = None if point is None else point.metadata
        if metadata is not None and request.with_metadata is not True:
            metadata = project(metadata, request.with_metadata)
        if point is not None and request.with_code:  # it may have got another code since the scan
            number, code = point.version, point.record
        hits.append(Hit(point_id, score, versions[number].id, metadata, distance, code))
    size.add(sum([size_of(hit.metadata, hit.code) for hit in hits]))
    return hits
