"""Reads over shards against a plain dict, after random writes, seals, compactions and restarts."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.shards.model import (
    FIELDS,
    FILTERS,
    SPECS,
    Model,
    Point,
    random_metadata,
    random_queries,
    random_records,
    same,
)

from bebr.core.filters import Filter, parse_filter
from bebr.core.types import Puts
from bebr.index import ScanQueries, compaction
from bebr.index.candidates import Found
from bebr.index.scan_view import ScanView
from bebr.index.shard import Shard
from bebr.shards import reads


class Shards:
    """Some shards in a folder, opened, and reads of all of them as they are now."""

    def __init__(self, folder: Path, count: int, head_rows: int) -> None:
        self.shards = [Shard(folder / f"shard-{number}", SPECS, FIELDS, head_rows) for number in range(count)]
        for shard in self.shards:
            shard.open()

    @property
    def views(self) -> reads.Views:
        return [shard.view for shard in self.shards]

    def scan(self, queries: Sequence[ScanQueries], slices: int = 1) -> list[Found]:
        with ThreadPoolExecutor(2) as scanners:
            return reads.search(ScanView.of(self.views), queries, scanners=scanners, slices=slices).found


@dataclass
class FedModel(Model):
    """With the compacted feed of each shard: the seq of the latest operation of each id."""

    feed: dict[int, dict[str, int]] = field(default_factory=dict)
    seq: dict[int, int] = field(default_factory=dict)

    def note(self, shard: int, point_id: str) -> None:
        self.seq[shard] = self.seq.get(shard, 0) + 1
        self.feed.setdefault(shard, {})[point_id] = self.seq[shard]


def put(index: Shards, model: FedModel, rng: np.random.Generator, count: int, universe: int) -> None:
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
            model.points[ids[i]] = Point(version, records[i], metadata[i])
        index.shards[shard].apply(batches_of(model, [ids[i] for i in rows]), [], model.seq[shard])


def batches_of(model: FedModel, ids: list[str]) -> list[tuple[Puts, dict[str, list[Any]]]]:
    batches = []
    for version in SPECS:
        some = [i for i in ids if model.points[i].version == version]
        if some:
            puts = Puts(some, version, np.stack([model.points[i].record for i in some]), [])
            batches.append((puts, {key: [model.points[i].metadata.get(key) for i in some] for key in FIELDS}))
    return batches


def delete(index: Shards, model: FedModel, rng: np.random.Generator, universe: int) -> None:
    ids = {f"p{i}" for i in rng.integers(0, universe, 8)} & model.points.keys()
    for shard in range(model.shards):
        some = sorted(i for i in ids if model.shard_of(i) == shard)
        for point_id in some:
            model.note(shard, point_id)
            del model.points[point_id]
        if some:
            index.shards[shard].apply([], some, model.seq[shard])


def reopen(folder: Path, model: FedModel, head_rows: int) -> Shards:
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


def added(views: reads.Views) -> dict[int, int]:
    """Points by code version of all shards."""
    return {v: count for v in SPECS if (count := sum(view.points.get(v, 0) for view in views))}


def check(index: Shards, model: FedModel, rng: np.random.Generator) -> None:
    assert added(index.views) == model.counts()
    for raw in FILTERS:
        condition = parse_filter(raw, FIELDS)
        expected = model.matching(condition)
        assert reads.count(index.views, condition) == len(expected), raw
        assert reads.ids(index.views, condition, None, 10_000) == expected
        if expected:
            middle = expected[len(expected) // 2]
            assert reads.ids(index.views, condition, middle, 3) == [i for i in expected if i > middle][:3]
    filters = [
        None if rng.random() < 0.3 else parse_filter(FILTERS[rng.integers(len(FILTERS))], FIELDS) for _ in range(5)
    ]
    for kind in ("sdc", "hamming"):
        limit = int(rng.choice([1, 3, 10, 1000]))
        queries = [random_queries(rng, version, filters, limit, kind) for version in SPECS]
        for some in (*([one] for one in queries), queries):
            assert same(index.scan(some, int(rng.integers(1, 4))), model.search(some))
        if kind == "sdc":
            raised = [replace(one, added=rng.normal(size=5), thresholds=rng.normal(size=5)) for one in queries]
            assert same(index.scan(raised), model.search(raised))


@pytest.mark.parametrize("seed", range(6))
def test_index_equals_a_dict_through_writes_seals_compactions_and_restarts(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MIN_DEAD_ROWS", 4)  # so that growing segments of this size are compacted too
    rng = np.random.default_rng(seed)
    head_rows = int(rng.choice([16, 32, 50]))
    model = FedModel(shards=int(rng.integers(1, 4)))
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
    model = FedModel(shards=1)
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
    model = FedModel(shards=1)
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
    index = reopen(tmp_path, FedModel(shards=1), 16)
    put(index, FedModel(shards=1), rng, 20, universe=20)
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
    model = FedModel(shards=2)
    index = reopen(tmp_path, model, 32)
    put(index, model, rng, 120, universe=120)
    queries = random_queries(rng, 0, [None], 500, "sdc")
    (everything,) = index.scan([queries])
    floor = np.float32(everything.scores[len(everything.scores) // 2]) if everything.scores else np.float32(0)
    (found,) = index.scan([replace(queries, floors=np.array([floor], np.float32))])
    assert found.ids == [i for i, s in zip(everything.ids, everything.scores, strict=True) if s >= floor]


def test_filter_type_is_hashable_for_the_cache() -> None:
    assert hash(parse_filter(FILTERS[0], FIELDS)) == hash(parse_filter(FILTERS[0], FIELDS))
    assert isinstance(parse_filter({}, FIELDS), Filter)
