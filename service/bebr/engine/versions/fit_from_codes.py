"""A fit to what the collection's own finer codes stand for, without texts or floats: a new scan code for all points, or
another size of it.

What a rescore code holds is little less than the embedding, so little is lost. Scan codes alone are no such source:
what they leave over would be lost for good, so such a fit is refused.
"""

import asyncio

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import TINY, Floats
from bebr.core.sampling import sample_keys, smallest
from bebr.engine.collections.collection import READ_PAGE, Collection
from bebr.engine.collections.encoders import Codec
from bebr.engine.collections.schema import CollectionDocument, FitSource
from bebr.engine.collections.version import Version, VersionKind
from bebr.errors import Conflict


def finer_versions(document: CollectionDocument) -> list[Version]:
    """The versions of the active version's model whose records stand for embeddings: by rescore codes, or buffered."""
    model = document.active_version.model_fingerprint
    return [
        version
        for version in document.versions
        if version.model_fingerprint == model
        and not version.retired
        and (version.kind is VersionKind.BUFFERED or version.spec.rescore is not None)
    ]


def check_finer(collection: Collection) -> None:
    """Raise Conflict unless points of the collection have finer codes; Incompatible where its codes represent no
    embedding."""
    document, points = collection.document, collection.shards.points()
    if any(points.get(version.number) for version in finer_versions(document) if version.spec.rescore is not None):
        return
    for version in document.of_model(collection.active):
        codec = collection.codec(version)
        codec.decode(np.zeros((1, version.spec.record_size_bytes), np.uint8))  # raises Incompatible
    raise Conflict(
        f"no point of '{collection.name}' has a rescore code, and scan codes alone would lose for good what they leave "
        "over. Request a fit without 'from' and write the points again, or encode them anew by a backfill",
        key="from",
    )


def converted(document: CollectionDocument) -> list[Version]:
    """The versions whose points a fit to finer codes moves to its own, which is active."""
    fit = document.fit
    if fit is None or fit.source is not FitSource.CODES or fit.due or fit.failed is not None or fit.at_fit is None:
        return []
    if fit.at_fit.version != document.active:
        return []  # another version was promoted since
    return [
        version
        for version in finer_versions(document)
        if version.number != document.active and version.kind is not VersionKind.BUFFERED
    ]


async def draw(collection: Collection, codec: Codec, count: int) -> list[bytes]:
    """What the codes of up to `count` points stand for, in random order, as records of another codec."""
    chosen: list[tuple[int, str]] = []
    for version in finer_versions(collection.document):
        for shard in range(collection.document.shards):
            ids = await collection.shards.version_ids(shard, version.number, None)
            chosen = await asyncio.to_thread(_smallest, chosen, version.number, ids, count)
    records: list[bytes] = []
    for start in range(0, len(chosen), READ_PAGE):
        records += await _read(collection, codec, [point_id for _, point_id in chosen[start : start + READ_PAGE]])
    return records


def decode_unit(codec: Codec, records: NDArray[np.uint8]) -> Floats:
    """records (rows, record_size_bytes) uint8 -> what they stand for, at length one (rows, embedding_dims) float32."""
    rows = codec.decode(records)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    is_nothing = lengths[:, 0] <= TINY
    rows[is_nothing, 0], lengths[is_nothing] = 1.0, 1.0  # a code that stands for nothing has no direction; any will do
    unit: Floats = rows / np.maximum(lengths, TINY)
    return unit


def _smallest(chosen: list[tuple[int, str]], version: int, ids: list[str], count: int) -> list[tuple[int, str]]:
    """The points with the smallest keys among those chosen so far and more of them, by ascending key."""
    both = chosen + [(version, point_id) for point_id in ids]
    keys = sample_keys(point_id for _, point_id in both)
    return [both[place] for place in smallest(keys, count).tolist()]


async def _read(collection: Collection, codec: Codec, ids: list[str]) -> list[bytes]:
    """Records of another codec of what points stand for, in the order of their ids."""
    points, _ = await collection.fetch_sound(ids, metadata=False, records=True)
    found: dict[str, bytes] = {}
    for version in finer_versions(collection.document):
        mine = [point for point in points.values() if point.version == version.number]
        if mine:
            joined = np.frombuffer(b"".join(point.record for point in mine), np.uint8).reshape(len(mine), -1)
            records = await asyncio.to_thread(recode, collection.codec(version), codec, joined)
            found |= zip((point.id for point in mine), map(bytes, records), strict=True)
    return [found[point_id] for point_id in ids if point_id in found]


def recode(before: Codec, after: Codec, records: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Records of one codec -> what they stand for, as those of another one."""
    return after.encode(decode_unit(before, records))
