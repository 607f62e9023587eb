"""Candidates are scored again by their rescore codes: the hits are those of numpy, whatever the shards hold where."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.shards.clients import LocalClients, MakeClients
from tests.shards.model import FIELDS, FILTERS, Point, names, random_metadata, to_text
from tests.waiting import until

from bebr.core.codes import CodeSpec, join_records, pack_levels, rescore_records, split_records
from bebr.core.filters import Filter, matches, parse_filter
from bebr.core.operations import DeleteWrite, PutWrite
from bebr.core.scoring import RescoreQueries, dot_scores, prepare_rescore, prepare_sdc, reaches, rescore_scores
from bebr.core.types import Puts, WriteMode
from bebr.errors import NotReady
from bebr.index import segment_file
from bebr.index.rescoring import NotInMemory
from bebr.index.segment import SegmentView
from bebr.shards import Found, Grouping, Rescoring, ScanQueries, ShardClient, ShardWrite, reads, values_of
from bebr.shards.local import LocalShards

SPECS = {0: CodeSpec.parse("24x4+9x1/30x2+11x1"), 1: CodeSpec.parse("64x1"), 2: CodeSpec.parse("16x2/16x8")}


@dataclass
class Model:
    """All points, and what a search of them finds, slowly."""

    shards: int
    points: dict[str, Point]

    def shard_of(self, point_id: str) -> int:
        return crc32(point_id.encode()) % self.shards

    def scored(self, queries: Sequence[ScanQueries], q: int) -> list[tuple[float, float, str]]:
        """(score of the scan, finer score, id) of all that pass the filter, in the order of the scan."""
        scored = []
        for one in queries:
            spec, condition = SPECS[one.version], one.filters[q]
            ids = [
                i
                for i, point in self.points.items()
                if point.version == one.version and (condition is None or matches(condition, i, point.metadata))
            ]
            if not ids:
                continue
            records = np.stack([self.points[i].record for i in ids])
            scores = dot_scores(one.prepared, *split_records(records, spec), spec)[q].astype(np.float64)  # type: ignore[arg-type]
            scores += 0.0 if one.added is None else one.added[q]
            finer = scores.copy()
            if one.rescore is not None:
                finer += rescore_scores(one.rescore, rescore_records(records, spec), spec)[q]
            scored += zip(scores.tolist(), finer.tolist(), ids, strict=True)
        return sorted(scored, key=lambda hit: (-hit[0], hit[2]))

    def search(self, queries: Sequence[ScanQueries], rescorings: Sequence[Rescoring]) -> list[list[tuple[float, str]]]:
        found = []
        for q, how in enumerate(rescorings):
            candidates, hits = self.scored(queries, q), list[tuple[float, str]]()
            for start in range(0, how.limit, how.candidates):
                run = [(finer, i) for _, finer, i in candidates[start : start + how.candidates]]
                run.sort(key=lambda hit: (-hit[0], hit[1]))
                hits += [hit for hit in run if reaches(hit[0], how.threshold)]
            found.append(hits[: how.wanted])
        return found

    def place(self, point_id: str, key: str, value: Any) -> int:
        """Of a value among those of a point."""
        values = self.points[point_id].metadata[key]
        return values.index(value) if isinstance(values, list) else 0

    def groups(self, queries: Sequence[ScanQueries], key: str, looked_at: int, size: int) -> dict[Any, list[Any]]:
        """The best `size` of each of the best groups by the scan: (score, finer, id) by value."""
        groups: dict[Any, list[Any]] = {}
        for hit in self.scored(queries, 0):
            values = self.points[hit[2]].metadata.get(key)
            for value in values if isinstance(values, list) else [values]:
                if value is not None and (value in groups or len(groups) < looked_at):
                    groups.setdefault(value, []).append(hit)
        return {value: hits[:size] for value, hits in groups.items()}


def random_points(rng: np.random.Generator, version: int, ids: Sequence[str]) -> dict[str, Point]:
    """Few distinct scan codes, and so many ties; few distinct rescore codes."""
    return {
        i: Point(version, record, random_metadata(rng))
        for i, record in zip(ids, random_records(rng, SPECS[version], len(ids)), strict=True)
    }


def random_records(rng: np.random.Generator, spec: CodeSpec, count: int) -> NDArray[np.uint8]:
    def some(of: CodeSpec, distinct: int) -> NDArray[np.uint8]:
        levels = (rng.integers(0, 256, (distinct, of.dims)) & of.max_levels).astype(np.uint8)
        codes = pack_levels(levels, of)[rng.integers(0, distinct, count)]
        return join_records(codes, rng.choice([0.5, 0.75], count).astype(np.float16))

    scan = some(spec.scan, 6)
    return scan if spec.rescore is None else np.hstack([scan, some(spec.rescore, 12)])


def random_search(
    rng: np.random.Generator, rescorings: Sequence[Rescoring], filters: Sequence[Filter | None], versions: Sequence[int]
) -> list[ScanQueries]:
    queries = []
    for version in versions:
        spec = SPECS[version]
        codes, gains = split_records(random_records(rng, spec, len(filters)), spec)
        finer: RescoreQueries | None = None
        if spec.rescore is not None:
            finer = prepare_rescore(rng.normal(size=(len(filters), spec.rescore.dims)).astype(np.float32), spec)
        queries.append(
            ScanQueries(
                version,
                prepare_sdc(codes, gains, spec, np.ones(len(spec.blocks), np.float32)),
                max(how.limit for how in rescorings),
                tuple(filters),
                np.full(len(filters), -np.inf, np.float32),
                None if rng.random() < 0.5 else rng.normal(size=len(filters)),
                rescore=finer,
            )
        )
    return queries


def random_rescoring(rng: np.random.Generator) -> Rescoring:
    skipped = int(rng.choice([0, 0, 3, 20, 60]))
    threshold = float(rng.choice([-np.inf, -np.inf, 0.0, 300.0]))
    return Rescoring(int(rng.choice([1, 5, 20, 1000])), skipped, skipped + int(rng.choice([1, 10, 40])), threshold)


def shown(found: Found, how: Rescoring) -> list[tuple[float, str]]:
    return list(zip(found.scores, found.ids, strict=True))[how.skipped : how.wanted]


async def check(client: ShardClient, model: Model, rng: np.random.Generator) -> None:
    filters = [None if rng.random() < 0.4 else parse_filter(FILTERS[rng.integers(len(FILTERS))], FIELDS)] * 3
    rescorings = [random_rescoring(rng) for _ in filters]
    queries = random_search(rng, rescorings, filters, rng.permutation(3).tolist())
    searched = await client.search(queries, None, rescorings)
    expected = model.search(queries, rescorings)
    for found, wanted, how in zip(searched.found, expected, rescorings, strict=True):
        assert shown(found, how) == wanted[how.skipped : how.wanted]
        assert all(model.points[i].version == v for i, v in zip(found.ids, found.versions, strict=True))
    assert searched.rescored is not None and len(searched.rescored.rows) == 3

    key, looked_at = str(rng.choice(["lang", "tags", "year"])), int(rng.choice([1, 2, 50]))
    one = [replace(query, filters=filters[:1]) for query in random_search(rng, rescorings, filters[:1], [0, 1, 2])]
    await check_groups(client, model, one, Grouping(key, looked_at), rng)


async def check_groups(
    client: ShardClient, model: Model, queries: list[ScanQueries], first: Grouping, rng: np.random.Generator
) -> None:
    size, kept, limit = int(rng.choice([2, 5])), int(rng.choice([1, 2])), int(rng.choice([1, 3]))
    (groups,) = (await client.search(queries, first)).found
    looked_at = model.groups(queries, first.key, first.limit, size)
    values = tuple(value for _, value in groups.groups)
    assert list(values) == list(looked_at)
    second = Grouping(first.key, limit, values, size, kept)
    searched = await client.search(queries, second)
    hits = [(-finer, i, model.place(i, first.key, value), value) for value, x in looked_at.items() for _, finer, i in x]
    taken: dict[Any, list[tuple[float, str]]] = {}
    for cost, point_id, _, value in sorted(hits):
        if (value in taken or len(taken) < limit) and len(taken.setdefault(value, [])) < kept:
            taken[value].append((-cost, point_id))
    (found,) = searched.found
    by_value: dict[Any, list[tuple[float, str]]] = {}
    for score, point_id, (_, value) in zip(found.scores, found.ids, found.groups, strict=True):
        by_value.setdefault(value, []).append((score, point_id))
    assert {v: sorted(some) for v, some in by_value.items()} == {v: sorted(some) for v, some in taken.items()}


async def write(client: ShardClient, model: Model, rng: np.random.Generator, version: int, count: int) -> None:
    shard = int(rng.integers(model.shards))
    universe = names(model, shard, 200)  # type: ignore[arg-type]
    ids = [universe[i] for i in rng.choice(len(universe), min(len(universe), count), replace=False)]
    if rng.random() < 0.2:
        await client.write(shard, ShardWrite(DeleteWrite(ids), {}))
        for point_id in ids:
            model.points.pop(point_id, None)
        return
    await put(client, model, shard, random_points(rng, version, ids))


async def put(client: ShardClient, model: Model, shard: int, points: dict[str, Point]) -> None:
    version = next(iter(points.values())).version
    records, metadata = np.stack([p.record for p in points.values()]), [p.metadata for p in points.values()]
    puts = Puts(list(points), version, records, [to_text(item) for item in metadata])
    await client.write(shard, ShardWrite(PutWrite(puts, WriteMode.UPSERT, None), values_of(metadata, FIELDS)))
    model.points |= points


@pytest.mark.parametrize("seed", range(4))
async def test_hits_are_those_of_numpy_through_writes_and_restarts(clients: MakeClients, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = Model(1 + seed % 3, {})
    client = await clients.open(model.shards, specs=SPECS, head_rows=32)
    for step in range(16):
        await write(client, model, rng, int(rng.integers(3)), int(rng.integers(1, 60)))
        await check(client, model, rng)
        if step % 8 == 7:
            await client.close(keep=bool(rng.random() < 0.5))
            client = await clients.open(model.shards, specs=SPECS, head_rows=32)
            await check(client, model, rng)


async def test_pages_of_one_search_follow_each_other(clients: MakeClients) -> None:
    """Whatever the pages are, they are parts of one order: no hit is shown twice and none is left out."""
    rng = np.random.default_rng(0)
    model = Model(2, {})
    client = await clients.open(2, specs=SPECS, head_rows=32)
    for version in (0, 2, 1, 0, 2):
        await write(client, model, rng, version, 60)
    whole = Rescoring(30, 0, 10_000)
    queries = random_search(rng, [whole], [None], [0, 1, 2])
    (everything,) = model.search(queries, [whole])
    assert len(everything) == len(model.points) > 100
    for size in (7, 30, 45):
        pages: list[tuple[float, str]] = []
        for start in range(0, len(everything), size):
            how = Rescoring(30, start, start + size)
            searched = await client.search([replace(one, limit=how.limit) for one in queries], None, [how])
            pages += shown(searched.found[0], how)
            assert searched.rescored is not None and searched.rescored.rows[0] <= 30 + size + 30
        assert pages == everything


async def test_the_event_loop_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = LocalClients(tmp_path)
    await clients.start()
    rng, model = np.random.default_rng(0), Model(1, {})
    client = await clients.open(1, specs=SPECS, head_rows=32)
    await write(client, model, rng, 0, 60)
    original, waited = reads.search, []

    def search(*args: Any, **options: Any) -> Any:
        waited.append(options.get("waits", True))
        if not waited[-1]:
            raise NotInMemory
        return original(*args, **options)

    monkeypatch.setattr(reads, "search", search)
    how = Rescoring(20, 0, 10)
    queries = random_search(rng, [how], [None], [0])
    searched = await client.search(queries, None, [how])
    assert shown(searched.found[0], how) == model.search(queries, [how])[0] and waited == [False, True]
    await clients.stop()


async def sealed(clients: MakeClients, model: Model, rng: np.random.Generator) -> LocalShards:
    """Shards with nothing but sealed segments."""
    client = await clients.open(model.shards, specs=SPECS, head_rows=32)
    for _ in range(6):
        await write(client, model, rng, 0, 50)
    await client.close(keep=True)
    reopened = await clients.open(model.shards, specs=SPECS, head_rows=32)
    assert isinstance(reopened, LocalShards)
    return reopened


@pytest.mark.parametrize("what", ["flipped", "cut", "deleted"])
async def test_a_file_damaged_while_it_is_served_is_mended(clients: MakeClients, tmp_path: Path, what: str) -> None:
    rng, model = np.random.default_rng(1), Model(1, {})
    client = await sealed(clients, model, rng)
    files = sorted(tmp_path.glob("shards/shard-0/*.seg"))
    for path in files:
        spoil(path, what)
    how = Rescoring(500, 0, 500)
    queries = random_search(rng, [how], [None], [0])
    with pytest.raises(NotReady, match="made anew from the store"):
        await client.search(queries, None, [how])
    plain = await client.search(queries)  # the scan needs no file
    assert len(plain.found[0].ids) == len(model.points)
    await until(lambda: not client.upkeep.is_busy, "mended")
    searched = await client.search(queries, None, [how])
    assert shown(searched.found[0], how) == model.search(queries, [how])[0]
    assert client.stats()[0].damaged_files >= 1
    for path in tmp_path.glob("shards/shard-0/*.seg"):
        segment_file.verify(path)


def spoil(path: Path, what: str) -> None:
    size = path.stat().st_size
    match what:
        case "flipped":  # the section of rows is the last one
            data = bytearray(path.read_bytes())
            data[-100] ^= 1
            path.write_bytes(data)
        case "cut":
            os.truncate(path, size - 300)
        case "deleted":
            path.unlink()


async def test_the_scrub_finds_a_damaged_row(clients: MakeClients, tmp_path: Path) -> None:
    rng, model = np.random.default_rng(2), Model(1, {})
    client = await sealed(clients, model, rng)
    spoil(next(tmp_path.glob("shards/shard-0/*.seg")), "flipped")
    await client.scrub(10**9)
    await until(lambda: client.stats()[0].damaged_files > 0 and not client.upkeep.is_busy, "mended")
    for path in tmp_path.glob("shards/shard-0/*.seg"):
        segment_file.verify(path)
    await check(client, model, rng)


async def test_a_search_goes_on_with_the_files_that_took_the_place_of_its_own(
    clients: MakeClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments are merged and deleted between a search's scan and its reads: it begins again with what is there now."""
    rng, model = np.random.default_rng(3), Model(1, {})
    client = await sealed(clients, model, rng)
    stale = client._scan_view()
    assert all(isinstance(part, SegmentView) for part in stale.parts)
    await put(client, model, 0, random_points(rng, 0, list(model.points)))
    await until(lambda: not client.upkeep.is_busy, "sealed")
    views = iter([stale])
    now = client._scan_view
    monkeypatch.setattr(client, "_scan_view", lambda: next(views, None) or now())
    how = Rescoring(20, 0, 10)
    queries = random_search(rng, [how], [None], [0])
    searched = await client.search(queries, None, [how])
    assert shown(searched.found[0], how) == model.search(queries, [how])[0]
    assert client.stats()[0].damaged_files == 0
