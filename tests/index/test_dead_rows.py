"""Rows that died are not scanned for long: segments without a living row go at once, mostly dead ones are made anew."""

from pathlib import Path

import numpy as np
import pytest

from bebr import kernel
from bebr.core.codes import CodeSpec, join_records
from bebr.core.filters import Filter, parse_filter
from bebr.core.types import FieldType, Puts
from bebr.index.columns import unpack_mask
from bebr.index.compaction import MIN_DEAD_ROWS
from bebr.index.growing import Compaction, GrowingSegment, GrowingView
from bebr.index.shard import Shard

SPECS = {0: CodeSpec.parse("64x4"), 1: CodeSpec.parse("64x1")}
FIELDS = {"n": FieldType.INTEGER}


def open_shard(folder: Path, head_rows: int = 1000) -> Shard:
    shard = Shard(folder, SPECS, FIELDS, head_rows)
    shard.open()
    return shard


def puts(ids: list[str], version: int, seed: int = 0) -> tuple[Puts, dict[str, list[int]]]:
    rng = np.random.default_rng([seed, *(ord(c) for c in ids[0])])
    codes = rng.integers(0, 256, (len(ids), SPECS[version].code_size_bytes), dtype=np.uint8)
    records = join_records(codes, np.ones(len(ids), np.float16))
    return Puts(ids, version, records, []), {"n": [seed] * len(ids)}


def put(shard: Shard, ids: list[str], version: int = 0, seed: int = 0) -> None:
    shard.apply([puts(ids, version, seed)], [], shard.seq + len(ids))


def names(start: int, stop: int) -> list[str]:
    return [f"p{number:04}" for number in range(start, stop)]


def scanned_rows(shard: Shard) -> int:
    return sum(part.rows for part in shard.view.parts)


def ids_of(shard: Shard, condition: Filter | None = None) -> list[str]:
    found = []
    for part in shard.view.parts:
        mask = part.live if condition is None else part.mask(condition)
        found += part.ids_at(np.flatnonzero(unpack_mask(mask, part.rows)).tolist())
    return sorted(found)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("count", [1, 20, 500])
def test_a_segment_without_a_living_row_is_dropped_with_the_last_of_them(
    tmp_path: Path, count: int, sealed: bool
) -> None:
    """As after a fit, when every point got a code of the new version; however few there are."""
    shard = open_shard(tmp_path)
    put(shard, names(0, count))
    if sealed:
        shard.flush()
    for start in range(0, count, 100):
        put(shard, names(start, min(start + 100, count)), version=1)
    assert scanned_rows(shard) == count and shard.view.points == {1: count}
    shard.apply([], names(0, count), shard.seq + count)
    assert shard.view.parts == ()
    if sealed:
        assert shard.needs_maintenance
    shard.maintain()
    assert not shard.needs_maintenance and list(tmp_path.glob("*.seg")) == []
    put(shard, names(0, 3))
    assert ids_of(shard) == names(0, 3)


def test_a_growing_segment_that_is_mostly_dead_is_made_anew_in_memory(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    put(shard, names(0, 200))
    put(shard, names(0, 80), seed=1)
    before = ids_of(shard)
    assert shard.needs_maintenance is False and scanned_rows(shard) == 280
    put(shard, names(0, 60), seed=2)
    assert shard.needs_maintenance
    assert shard.maintain() is False, "no file is written for it"
    assert scanned_rows(shard) == 200 and not shard.needs_maintenance and list(tmp_path.iterdir()) == []
    assert ids_of(shard) == before == names(0, 200)
    condition = parse_filter({"must": [{"key": "n", "match": {"value": 2}}]}, FIELDS)
    assert ids_of(shard, condition) == names(0, 60)
    put(shard, names(0, 10), seed=3)
    shard.apply([], names(150, 200), shard.seq + 50)
    assert ids_of(shard) == names(0, 150) and ids_of(shard, condition) == names(10, 60)


def test_a_sealed_segment_of_a_small_shard_is_made_anew_when_most_of_it_died(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    put(shard, names(0, 200))
    shard.flush()
    put(shard, names(0, MIN_DEAD_ROWS - 1), version=1)
    assert not shard.needs_maintenance
    put(shard, names(0, 100), version=1)
    assert shard.needs_maintenance
    shard.maintain()
    assert not shard.needs_maintenance and shard.view.points == {0: 100, 1: 100}
    assert sum(part.rows for part in shard.view.parts if part.version == 0) == 100
    assert ids_of(shard) == names(0, 200)


def test_a_row_that_is_written_again_and_again_costs_few_rows(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    for seed in range(1000):
        put(shard, ["a"], seed=seed)
        if shard.needs_maintenance:
            shard.maintain()
        assert scanned_rows(shard) <= MIN_DEAD_ROWS + 2
    assert ids_of(shard) == ["a"]


def test_what_was_dropped_is_not_missed_after_a_restart(tmp_path: Path) -> None:
    """A checkpoint leaves out the dead segments; the files and a replay of what follows it give the same points."""
    shard = open_shard(tmp_path, head_rows=50)
    put(shard, names(0, 120))  # two sealed and one growing segment
    shard.maintain()
    put(shard, names(0, 120), version=1)
    shard.maintain()
    put(shard, names(0, 30))
    shard.apply([], names(100, 120), shard.seq + 20)
    shard.maintain()
    again = open_shard(tmp_path, head_rows=50)
    feed = [(121 + n, name, 1) for n, name in enumerate(names(0, 120)) if 30 <= n < 100]
    feed += [(241 + n, name, 0) for n, name in enumerate(names(0, 30))]
    feed += [(271 + n, name, -1) for n, name in enumerate(names(100, 120))]
    for seq, name, version in sorted(feed):
        if seq > again.checkpoint_seq:
            again.apply([puts([name], version)] if version >= 0 else [], [name] if version < 0 else [], seq)
    assert again.view.points == shard.view.points == {0: 30, 1: 70}
    assert ids_of(again) == ids_of(shard) == names(0, 100)


@pytest.mark.parametrize("seed", range(8))
def test_what_happens_while_a_segment_is_made_anew_is_carried_over(seed: int) -> None:
    rng = np.random.default_rng(seed)
    segment = GrowingSegment(0, SPECS[0], FIELDS, 400)
    view = GrowingView.of(segment)

    def change(view: GrowingView, count: int) -> GrowingView:
        ids = names(0, 60)
        for n in range(count):
            chosen = [ids[i] for i in rng.choice(60, int(rng.integers(1, 5)), replace=False)]
            view = view.without(segment.forget(chosen))
            if rng.random() < 0.7:
                batch, values = puts(chosen, 0, seed=n)
                segment.append(batch.ids, batch.records, values)
                view = view.extended()
        return view

    view = change(view, 40)
    compaction = Compaction(view)
    view = change(view, int(rng.integers(0, 40)))
    made = compaction.finish(view)
    assert {key: len(column) for key, column in made.segment.values.items()} == {"n": made.rows}
    assert made.live_count == view.live_count == len(made.segment.row_of)
    for point_id, row in segment.row_of.items():
        new = made.segment.row_of[point_id]
        assert made.ids_at([new]) == [point_id] and unpack_mask(made.live, made.rows)[new]
        assert made.segment.values["n"][new] == segment.values["n"][row]
        assert made.gains[new] == segment.gains[row]
    again = made.without(made.segment.forget(list(segment.row_of)))
    assert again.live_count == 0


def test_a_writer_that_goes_on_while_a_shard_is_maintained_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer comes between the two parts of every compaction, and fills or empties the segment in some."""
    shard = open_shard(tmp_path, head_rows=300)
    living: dict[str, int] = {}
    rng = np.random.default_rng(5)
    original = Compaction.__init__

    def write() -> None:
        chosen = sorted({f"p{n:04}" for n in rng.integers(0, 150, int(rng.integers(1, 120)))})
        version = int(rng.integers(0, 2))
        put(shard, chosen, version)
        living.update(dict.fromkeys(chosen, version))
        gone = [name for name in chosen[::3] if rng.random() < 0.5]
        if gone:
            shard.apply([], gone, shard.seq + len(gone))
            for name in gone:
                del living[name]

    def compact_and_write(self: Compaction, view: GrowingView) -> None:
        original(self, view)
        write()

    monkeypatch.setattr(Compaction, "__init__", compact_and_write)
    for _ in range(60):
        write()
        shard.maintain()
        assert ids_of(shard) == sorted(living)
        expected = {version: sum(v == version for v in living.values()) for version in (0, 1)}
        assert shard.view.points == {version: count for version, count in expected.items() if count}


def test_a_segment_grows_with_its_rows(tmp_path: Path) -> None:
    """Collections of a few points take a few kilobytes; views of before stay as they were while it grows."""
    shard = open_shard(tmp_path, head_rows=8192)
    put(shard, names(0, 10))
    (early,) = shard.view.parts
    assert early.blocked.nbytes < 64 * SPECS[0].record_size_bytes * 2
    before = early.blocked.copy()
    for start in range(10, 5000, 83):
        put(shard, names(start, min(5000, start + 83)))
    (late,) = shard.view.parts
    assert np.array_equal(early.blocked, before) and early.rows == 10 and late.rows == 5000
    assert ids_of(shard) == names(0, 5000)
    codes = puts(names(0, 10), 0)[0].records[:, : SPECS[0].code_size_bytes]
    assert np.array_equal(kernel.unpack(late.blocked, SPECS[0], np.arange(10)), codes)


@pytest.mark.parametrize("dead", [30, 20])
def test_few_rows_of_which_most_are_dead_are_given_back(tmp_path: Path, dead: int) -> None:
    """With many shards each has few rows, and none ever has many dead ones."""
    shard = open_shard(tmp_path)
    put(shard, names(0, 35))
    shard.apply([], names(0, dead), shard.seq + dead)
    assert shard.needs_maintenance
    shard.maintain()
    assert scanned_rows(shard) == 35 - dead and ids_of(shard) == names(dead, 35)
    assert not shard.needs_maintenance
