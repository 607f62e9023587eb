"""A plain dict that says what shards must hold and find, slowly and simply, and random points to put into both."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec, join_records, pack_levels, split_records
from bebr.core.filters import Filter, matches
from bebr.core.operations import PutWrite, Receipt
from bebr.core.scoring import (
    DotQueries,
    HammingQueries,
    dot_scores,
    hamming_distances,
    hamming_scores,
    prepare_hamming,
    prepare_sdc,
    reaches,
)
from bebr.core.types import FieldType, Puts, WriteMode
from bebr.shards import Found, ScanQueries, ShardClient, ShardWrite, values_of

FIELDS = {
    "lang": FieldType.KEYWORD,
    "year": FieldType.INTEGER,
    "price": FieldType.FLOAT,
    "draft": FieldType.BOOL,
    "tags": FieldType.KEYWORDS,
}
SPECS = {0: CodeSpec.parse("24x4+17x2+9x1"), 1: CodeSpec.parse("64x1")}
FILTERS: list[dict[str, Any]] = [
    {"must": [{"key": "lang", "match": {"value": "en"}}]},
    {
        "must": [{"key": "lang", "match": {"any": ["de", "fr", "absent"]}}],
        "must_not": [{"key": "year", "range": {"lt": 2003}}],
    },
    {"should": [{"key": "tags", "match": {"value": "red"}}, {"key": "draft", "match": {"value": True}}]},
    {"must_not": [{"is_empty": {"key": "price"}}], "must": [{"key": "price", "range": {"gte": 0.25, "lte": 0.75}}]},
    {"must": [{"key": "tags", "match": {"except": ["red"]}}]},
    {"must": [{"has_id": ["p3", "p10", "absent", "p77"]}]},
    {"must": [{"key": "lang", "match": {"value": "absent"}}]},
    {},
]


MAX_METADATA_BYTES = 10_000


class Point(NamedTuple):
    version: int
    record: NDArray[np.uint8]
    metadata: dict[str, Any]


@dataclass
class Model:
    """What the shards must hold."""

    shards: int
    points: dict[str, Point] = field(default_factory=dict)

    def shard_of(self, point_id: str) -> int:
        return crc32(point_id.encode()) % self.shards

    def in_shard(self, shard: int) -> dict[str, Point]:
        return {i: point for i, point in self.points.items() if self.shard_of(i) == shard}

    def counts(self, points: dict[str, Point] | None = None) -> dict[int, int]:
        """Points by code version."""
        counts: dict[int, int] = {}
        for point in (self.points if points is None else points).values():
            counts[point.version] = counts.get(point.version, 0) + 1
        return counts

    def matching(self, condition: Filter | None) -> list[str]:
        found = (i for i, p in self.points.items() if condition is None or matches(condition, i, p.metadata))
        return sorted(found)

    def search(self, queries: Sequence[ScanQueries]) -> list[Found]:
        """Every point of all versions is scored and sorted. queries: of one code version each."""
        return [
            first_hits(found, max(one.limit for one in queries))
            for found in zip(*map(self._search_version, queries), strict=True)
        ]

    def _search_version(self, queries: ScanQueries) -> list[Found]:
        spec = SPECS[queries.version]
        ids = sorted(i for i, point in self.points.items() if point.version == queries.version)
        size = spec.record_size_bytes
        records = np.stack([self.points[i].record for i in ids]) if ids else np.empty((0, size), np.uint8)
        codes, gains = split_records(records, spec)
        distances = None
        if isinstance(queries.prepared, DotQueries):
            scores = dot_scores(queries.prepared, codes, gains, spec)
            floored = scores
        else:
            assert isinstance(queries.prepared, HammingQueries)
            distances = hamming_distances(queries.prepared, codes, spec)
            scores = hamming_scores(distances, spec.dims)
            floored = -distances.astype(np.float32)
        found = []
        for q, condition in enumerate(queries.filters):
            passed = [
                n for n, i in enumerate(ids) if condition is None or matches(condition, i, self.points[i].metadata)
            ]
            kept = [n for n in passed if floored[q][n] >= queries.floors[q]]
            order = sorted(kept, key=lambda n: (-scores[q][n], ids[n]))[: queries.limit]
            added = 0.0 if queries.added is None else float(queries.added[q])
            least = -np.inf if queries.thresholds is None else float(queries.thresholds[q])
            order = [n for n in order if reaches(float(scores[q][n]) + added, least)]
            found.append(
                Found(
                    [float(scores[q][n]) + added for n in order],
                    [ids[n] for n in order],
                    [queries.version] * len(order),
                    None if distances is None else [int(distances[q][n]) for n in order],
                )
            )
        return found


def first_hits(found: Sequence[Found], limit: int) -> Found:
    """The best of several, by score, then id."""
    hits = sorted(
        (-score, point_id, version, distance)
        for one in found
        for score, point_id, version, distance in zip(
            one.scores, one.ids, one.versions, one.distances or [0] * len(one.ids), strict=True
        )
    )[:limit]
    distances = None if found[0].distances is None else [hit[3] for hit in hits]
    return Found([-hit[0] for hit in hits], [hit[1] for hit in hits], [hit[2] for hit in hits], distances)


def same(found: Sequence[Found], expected: Sequence[Found]) -> bool:
    """Whether two searches found the very same; scores are float32."""
    return len(found) == len(expected) and all(
        one.ids == other.ids
        and one.versions == other.versions
        and one.distances == other.distances
        and np.array_equal(np.array(one.scores, np.float32), np.array(other.scores, np.float32))
        for one, other in zip(found, expected, strict=True)
    )


def random_metadata(rng: np.random.Generator) -> dict[str, Any]:
    choices = {
        "lang": lambda: str(rng.choice(["en", "de", "fr", "日本"])),
        "year": lambda: int(rng.integers(2000, 2006)),
        "price": lambda: float(rng.random()),
        "draft": lambda: bool(rng.random() < 0.5),
        "tags": lambda: [str(tag) for tag in rng.choice(["red", "blue", "green"], rng.integers(0, 3), replace=False)],
    }
    return {key: make() for key, make in choices.items() if rng.random() < 0.8}


def random_records(rng: np.random.Generator, spec: CodeSpec, count: int) -> NDArray[np.uint8]:
    """Few distinct codes, so that ties are everywhere."""
    levels = rng.integers(0, spec.max_levels.astype(int) + 1, (6, spec.dims)).astype(np.uint8)
    codes = pack_levels(levels, spec)[rng.integers(0, 6, count)]
    return join_records(codes, rng.choice([0.5, 0.75], count).astype(np.float16))


def random_queries(
    rng: np.random.Generator, version: int, filters: Sequence[Filter | None], limit: int, kind: str
) -> ScanQueries:
    """One query for each filter. kind: 'sdc' or 'hamming'."""
    spec = SPECS[version]
    codes, gains = split_records(random_records(rng, spec, len(filters)), spec)
    prepared: DotQueries | HammingQueries
    if kind == "sdc":
        steps = np.linspace(0.5, 1, len(spec.blocks)).astype(np.float32)
        prepared = prepare_sdc(codes, gains, spec, steps)
    else:
        prepared = prepare_hamming(codes)
    floors = np.full(len(filters), -np.inf, np.float32)
    return ScanQueries(version, prepared, limit, tuple(filters), floors)


def random_points(rng: np.random.Generator, version: int, ids: Sequence[str]) -> dict[str, Point]:
    records = random_records(rng, SPECS[version], len(ids))
    return {i: Point(version, record, random_metadata(rng)) for i, record in zip(ids, records, strict=True)}


def to_text(metadata: dict[str, Any]) -> str:
    return json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))


def write_of(
    points: dict[str, Point],
    version: int,
    mode: WriteMode = WriteMode.UPSERT,
    receipt: Receipt | None = None,
) -> ShardWrite:
    size = SPECS[version].record_size_bytes
    records = np.stack([p.record for p in points.values()]) if points else np.empty((0, size), np.uint8)
    metadata = [point.metadata for point in points.values()]
    puts = Puts(list(points), version, records, [to_text(item) for item in metadata])
    return ShardWrite(PutWrite(puts, mode, receipt), values_of(metadata, FIELDS))


def names(model: Model, shard: int, universe: int) -> list[str]:
    return [name for name in (f"p{n}" for n in range(universe)) if model.shard_of(name) == shard]


async def fill(client: ShardClient, model: Model, rng: np.random.Generator, count: int, version: int = 0) -> None:
    """`count` points that were not there, shard by shard."""
    ids = [f"p{n}" for n in range(len(model.points), len(model.points) + count)]
    for shard in range(model.shards):
        points = random_points(rng, version, [i for i in ids if model.shard_of(i) == shard])
        if points:
            await client.write(shard, write_of(points, version))
            model.points.update(points)


def reencoded(records: np.ndarray) -> np.ndarray:
    """Records of version 0 -> records of version 1 that tell what they were made of."""
    size = SPECS[1].record_size_bytes
    made = np.zeros((len(records), size), np.uint8)
    made[:, : size - 2] = records[:, : size - 2]
    made[:, size - 2 :] = records[:, -2:]
    return made
