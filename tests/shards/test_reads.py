"""Reads over shards against a plain dict, after random writes, seals, compactions and restarts."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from bebr.core.codes import CodeSpec, join_records, pack_levels, split_records
from bebr.core.filters import Filter, matches, parse_filter
from bebr.core.scoring import (
    DotQueries,
    HammingQueries,
    dot_scores,
    hamming_distances,
    hamming_scores,
    prepare_hamming,
    prepare_sdc,
)
from bebr.core.types import FieldType, Puts
from bebr.index import ScanQueries, compaction
from bebr.index.scan import Found
from bebr.index.shard import Shard
from bebr.shards import reads

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


class Shards:
    """Some shards in a folder, opened, and reads of all of them as they are now."""

    def __init__(self, folder: Path, count: int, head_rows: int) -> None:
        self.shards = [Shard(folder / f"shard-{number}", SPECS, FIELDS, head_rows) for number in range(count)]
        for shard in self.shards:
            shard.open()

    @property
    def views(self) -> reads.Views:
        return [shard.view for shard in self.shards]

    def scan(self, queries: ScanQueries) -> list[Found]:
        with ThreadPoolExecutor(2) as scanners:
            return reads.search(self.views, [queries], scanners)[0]


@dataclass
class Model:
    """What the collection must hold: id -> (version, record, metadata), and the compacted feed per shard."""

    shards: int
    points: dict[str, tuple[int, np.ndarray, dict[str, Any]]] = field(default_factory=dict)
    feed: dict[int, dict[str, int]] = field(default_factory=dict)
    seq: dict[int, int] = field(default_factory=dict)

    def shard_of(self, point_id: str) -> int:
        return crc32(point_id.encode()) % self.shards

    def note(self, shard: int, point_id: str) -> int:
        self.seq[shard] = self.seq.get(shard, 0) + 1
        self.feed.setdefault(shard, {})[point_id] = self.seq[shard]
        return self.seq[shard]


def random_metadata(rng: np.random.Generator) -> dict[str, Any]:
    choices = {
        "lang": lambda: str(rng.choice(["en", "de", "fr", "日本"])),
        "year": lambda: int(rng.integers(2000, 2006)),
        "price": lambda: float(rng.random()),
        "draft": lambda: bool(rng.random() < 0.5),
        "tags": lambda: [str(tag) for tag in rng.choice(["red", "blue", "green"], rng.integers(0, 3), replace=False)],
    }
    return {key: make() for key, make in choices.items() if rng.random() < 0.8}


def random_records(rng: np.random.Generator, spec: CodeSpec, count: int) -> np.ndarray:
    """Few distinct codes, so that ties are everywhere."""
    levels = rng.integers(0, spec.max_levels.astype(int) + 1, (6, spec.dims)).astype(np.uint8)
    codes = pack_levels(levels, spec)[rng.integers(0, 6, count)]
    return join_records(codes, rng.choice([0.5, 0.75], count).astype(np.float16))


def put(index: Shards, model: Model, rng: np.random.Generator, count: int, universe: int) -> None:
    ids = [f"p{i}" for i in rng.choice(universe, min(count, universe), replace=False)]
    version = int(rng.integers(0, 2))
    records = random_records(rng, SPECS[version], len(ids))
    metadata = [random_metadata(rng) for _ in ids]
    for shard in range(model.shards):
        rows = [i for i, point_id in enumerate(ids) if model.shard_of(point_id) == shard]
        if not rows:
            continue
        for i in rows:
            model.note(shard, ids[i])
            model.points[ids[i]] = (version, records[i], metadata[i])
        index.shards[shard].apply(batches_of(model, [ids[i] for i in rows]), [], model.seq[shard])


def batches_of(model: Model, ids: list[str]) -> list[tuple[Puts, dict[str, list[Any]]]]:
    batches = []
    for version in SPECS:
        some = [i for i in ids if model.points[i][0] == version]
        if some:
            puts = Puts(some, version, np.stack([model.points[i][1] for i in some]), [])
            batches.append((puts, {key: [model.points[i][2].get(key) for i in some] for key in FIELDS}))
    return batches


def delete(index: Shards, model: Model, rng: np.random.Generator, universe: int) -> None:
    ids = {f"p{i}" for i in rng.integers(0, universe, 8)} & model.points.keys()
    for shard in range(model.shards):
        some = sorted(i for i in ids if model.shard_of(i) == shard)
        for point_id in some:
            model.note(shard, point_id)
            del model.points[point_id]
        if some:
            index.shards[shard].apply([], some, model.seq[shard])


def reopen(folder: Path, model: Model, head_rows: int) -> Shards:
    """A restart: open what is on disk, then replay what the feed has beyond it, some of it twice."""
    index = Shards(folder, model.shards, head_rows)
    for number, shard in enumerate(index.shards):
        for _ in range(2):
            after = shard.checkpoint_seq
            newer = sorted((seq, i) for i, seq in model.feed.get(number, {}).items() if seq > after)
            dead = [i for _, i in newer if i not in model.points]
            if newer:
                alive = [i for _, i in newer if i in model.points]
                shard.apply(batches_of(model, alive), dead, newer[-1][0])
    return index


def check(index: Shards, model: Model, rng: np.random.Generator) -> None:
    assert sum(sum(view.points.values()) for view in index.views) == len(model.points)
    for raw in FILTERS:
        condition = parse_filter(raw, FIELDS)
        expected = sorted(i for i, (_, _, metadata) in model.points.items() if matches(condition, i, metadata))
        assert reads.count(index.views, condition) == len(expected), raw
        assert reads.ids(index.views, condition, None, 10_000) == expected
        if expected:
            middle = expected[len(expected) // 2]
            assert reads.ids(index.views, condition, middle, 3) == [i for i in expected if i > middle][:3]
    for version, spec in SPECS.items():
        filters = tuple(
            None if rng.random() < 0.3 else parse_filter(FILTERS[rng.integers(len(FILTERS))], FIELDS) for _ in range(5)
        )
        codes, gains = split_records(random_records(rng, spec, 5))
        steps = np.linspace(0.5, 1, len(spec.blocks)).astype(np.float32)
        for prepared in (prepare_sdc(codes, gains, spec, steps), prepare_hamming(codes)):
            limit = int(rng.choice([1, 3, 10, 1000]))
            queries = ScanQueries(version, prepared, limit, filters, np.full(5, -np.inf, np.float32))
            check_scan(index, model, queries, spec)


def check_scan(index: Shards, model: Model, queries: ScanQueries, spec: CodeSpec) -> None:
    ids = sorted(i for i, (version, _, _) in model.points.items() if version == queries.version)
    records = np.stack([model.points[i][1] for i in ids]) if ids else np.empty((0, spec.record_size_bytes), np.uint8)
    codes, gains = split_records(records)
    if isinstance(queries.prepared, DotQueries):
        scores = dot_scores(queries.prepared, codes, gains, spec)
    else:
        assert isinstance(queries.prepared, HammingQueries)
        scores = hamming_scores(hamming_distances(queries.prepared, codes, spec), spec.dims)
    for found, row, condition in zip(index.scan(queries), scores, queries.filters, strict=True):
        kept = [n for n, i in enumerate(ids) if condition is None or matches(condition, i, model.points[i][2])]
        order = sorted(kept, key=lambda n: (-row[n], ids[n]))[: queries.limit]
        assert found.ids == [ids[n] for n in order]
        assert np.array_equal(np.array(found.scores, np.float32), row[order])


@pytest.mark.parametrize("seed", range(6))
def test_index_equals_a_dict_through_writes_seals_compactions_and_restarts(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MIN_DEAD_ROWS", 4)  # so that growing segments of this size are compacted too
    rng = np.random.default_rng(seed)
    head_rows = int(rng.choice([16, 32, 50]))
    model = Model(shards=int(rng.integers(1, 4)))
    index = reopen(tmp_path, model, head_rows)
    for step in range(40):
        match int(rng.integers(0, 7)):
            case 0 | 1 | 2:
                put(index, model, rng, int(rng.integers(1, 90)), universe=200)
            case 3:
                delete(index, model, rng, universe=200)
            case 4:
                for shard in index.shards:
                    shard.maintain()
            case 5:
                index.shards[0].flush()
            case 6:
                index = reopen(tmp_path, model, head_rows)
        if step % 5 == 4:
            check(index, model, rng)
    for shard in index.shards:
        shard.flush()
    check(reopen(tmp_path, model, head_rows), model, rng)


def test_rows_that_die_while_a_segment_is_made_stay_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deletes that arrive between the reading of a head and the swap to its segment must not be lost."""
    from bebr.index import sealing

    rng = np.random.default_rng(1)
    model = Model(shards=1)
    index = reopen(tmp_path, model, 64)
    put(index, model, rng, 150, universe=150)
    original = sealing.write_segment

    def write_and_delete(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        delete(index, model, rng, universe=150)

    monkeypatch.setattr(sealing, "write_segment", write_and_delete)
    for _ in range(3):
        put(index, model, rng, 40, universe=150)
        index.shards[0].flush()
        check(index, model, rng)
    monkeypatch.undo()
    check(reopen(tmp_path, model, 64), model, rng)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest", "mask"])
def test_damaged_files_are_noticed_and_the_shard_starts_empty(tmp_path: Path, damage: str) -> None:
    rng = np.random.default_rng(2)
    model = Model(shards=1)
    index = reopen(tmp_path, model, 32)
    put(index, model, rng, 100, universe=100)
    index.shards[0].flush()
    delete(index, model, rng, universe=100)
    index.shards[0].flush()
    folder = tmp_path / "shard-0"
    victim = {"manifest": "shard.json", "mask": "*.live"}.get(damage, "*.seg")
    path = next(folder.glob(victim))
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        data[len(data) // 2] ^= 4
        path.write_bytes(data[: len(data) // 2] if damage == "truncate" else data)
    index = Shards(tmp_path, 1, 32)
    assert index.shards[0].rebuilt_because is not None
    assert index.shards[0].seq == 0 and not any(view.points for view in index.views)
    check(reopen(tmp_path, model, 32), model, rng)


def test_every_flipped_byte_of_a_segment_is_noticed(tmp_path: Path) -> None:
    from bebr.errors import DamagedSegment
    from bebr.index.segment import Segment

    rng = np.random.default_rng(3)
    index = reopen(tmp_path, Model(shards=1), 16)
    put(index, Model(shards=1), rng, 20, universe=20)
    index.shards[0].flush()
    path = next((tmp_path / "shard-0").glob("*.seg"))
    sound = path.read_bytes()
    used = Segment(path).rows
    assert used > 0
    header_end = 16 + int.from_bytes(sound[8:12], "little")
    sections = json.loads(sound[16:header_end])["sections"]
    start = (header_end + 63) // 64 * 64
    covered = set(range(header_end))
    for entry in sections.values():
        covered |= set(range(start + entry["offset"], start + entry["offset"] + entry["size"]))
    for position in sorted(covered)[:: max(1, len(covered) // 300)]:
        data = bytearray(sound)
        data[position] ^= 1
        path.write_bytes(data)
        with pytest.raises(DamagedSegment):
            Segment(path)


def test_floors_cut_and_thresholds_hold(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    model = Model(shards=2)
    index = reopen(tmp_path, model, 32)
    put(index, model, rng, 120, universe=120)
    spec = SPECS[0]
    codes, gains = split_records(random_records(rng, spec, 1))
    prepared = prepare_sdc(codes, gains, spec, np.ones(3, np.float32))
    everything = index.scan(ScanQueries(0, prepared, 500, (None,), np.array([-np.inf], np.float32)))[0]
    floor = np.float32(everything.scores[len(everything.scores) // 2]) if everything.scores else np.float32(0)
    found = index.scan(ScanQueries(0, prepared, 500, (None,), np.array([floor], np.float32)))[0]
    assert found.ids == [i for i, s in zip(everything.ids, everything.scores, strict=True) if s >= floor]


def test_filter_type_is_hashable_for_the_cache() -> None:
    assert hash(parse_filter(FILTERS[0], FIELDS)) == hash(parse_filter(FILTERS[0], FIELDS))
    assert isinstance(parse_filter({}, FIELDS), Filter)
