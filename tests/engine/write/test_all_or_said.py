"""A write over several shards is done, or the error says of every point what became of it; keys are judged before that.

The store is real; `Faulty` lets commits to some shards fail as a full disk or a lost connection would.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from tests.engine.running import settings
from tests.engine.test_engine import codes, point

from bebr.bootstrap import shipped_bundles
from bebr.core import operations
from bebr.core.operations import Commit, CommitOutcome
from bebr.core.types import FieldType, WriteMode
from bebr.encoding import BundleRegistry
from bebr.engine import CollectionSettings, Engine, EngineOptions, Parts
from bebr.errors import BebrError, IdempotencyConflict, InsufficientStorage, InvalidMetadata, StoreUnavailable
from bebr.store.sqlite.store import SqliteStore

SHARDS = 3
CODES = codes(60)
GERMAN = {"must": [{"key": "lang", "match": {"value": "de"}}]}


class Faulty(SqliteStore):
    """Commits to the shards of `faults` fail. 'full' and 'lost' apply nothing, 'answer' loses the answer."""

    faults: dict[int, str]

    async def commit(self, uid: str, commits: Sequence[Commit]) -> list[CommitOutcome]:
        kinds = [self.faults.get(commit.shard, "") if commit.operations else "" for commit in commits]
        reach = [commit for commit, kind in zip(commits, kinds, strict=True) if kind in ("", "answer")]
        outcomes = iter(await super().commit(uid, reach) if reach else [])
        return [self._outcome(kind, outcomes) for kind in kinds]

    def _outcome(self, kind: str, outcomes: Any) -> CommitOutcome:
        if kind == "full":
            return InsufficientStorage("no room")
        if kind == "lost":
            return StoreUnavailable("the store did not answer")
        outcome: CommitOutcome = next(outcomes)
        return StoreUnavailable("the answer was lost") if kind == "answer" else outcome


@asynccontextmanager
async def faulty(folder: Path) -> AsyncIterator[tuple[Engine, Faulty]]:
    """An engine with a collection of three shards."""
    chosen = settings(folder, head_rows=8192)
    store = Faulty(folder / "store")
    store.faults = {}
    bundles, options = BundleRegistry([folder / "bundles", shipped_bundles()]), EngineOptions(1, 1, chosen.head_rows)
    engine = Engine(Parts(store, bundles, folder, chosen.limits, options))
    await engine.start()
    try:
        await engine.wait_until_ready()
        await engine.create_collection(
            "docs", CollectionSettings(code="24x2", shards=SHARDS, filterable={"lang": FieldType.KEYWORD})
        )
        yield engine, store
    finally:
        store.faults = {}
        await engine.stop()


def shard_of(name: str) -> int:
    return crc32(name.encode()) % SHARDS


def sent(numbers: Sequence[int], value: int = 0) -> list[dict[str, Any]]:
    return [point(n, CODES[n], v=value, lang="de") for n in numbers]


def of_shard(shard: int, count: int) -> list[int]:
    return [n for n in range(60) if shard_of(f"p{n:03d}") == shard][:count]


async def stored(engine: Engine) -> dict[str, int]:
    """What the store has, by id: the value `v`."""
    found, _ = await engine.get_points("docs", [f"p{n:03d}" for n in range(60)])
    return {one.id: json.loads(one.metadata or "{}")["v"] for one in found}


@pytest.mark.parametrize("first", range(SHARDS))
async def test_a_key_used_for_another_request_is_found_before_anything_is_applied(tmp_path: Path, first: int) -> None:
    """Also where the other request has points in other shards only."""
    async with faulty(tmp_path) as (engine, _):
        await engine.write_points("docs", sent(of_shard(first, 1)), WriteMode.UPSERT, "key")
        before = await stored(engine)
        others = [n for shard in range(SHARDS) if shard != first for n in of_shard(shard, 2)]
        for numbers in (others, others + of_shard(first, 2), of_shard((first + 1) % SHARDS, 1)):
            with pytest.raises(IdempotencyConflict):
                await engine.write_points("docs", sent(numbers, 1), WriteMode.UPSERT, "key")
            assert await stored(engine) == before


async def test_of_concurrent_requests_with_one_key_one_is_applied(tmp_path: Path) -> None:
    async with faulty(tmp_path) as (engine, _):
        bodies = [sent(of_shard(n % SHARDS, 3) + of_shard((n + 1) % SHARDS, 3), n) for n in range(6)]
        outcomes = await asyncio.gather(
            *(engine.write_points("docs", body, WriteMode.UPSERT, "key") for body in bodies), return_exceptions=True
        )
        conflicts = [isinstance(outcome, IdempotencyConflict) for outcome in outcomes]
        assert conflicts.count(False) == 1
        assert await stored(engine) == {one["id"]: one["metadata"]["v"] for one in bodies[conflicts.index(False)]}


async def test_a_failed_shard_is_said_point_by_point_and_a_retry_settles_it(tmp_path: Path) -> None:
    async with faulty(tmp_path) as (engine, store):
        body = [*sent(range(9), 1), {"id": "", "code_b64": "x"}]
        store.faults = {0: "full", 1: "answer"}
        with pytest.raises(StoreUnavailable) as raised:
            await engine.write_points("docs", body, WriteMode.INSERT_ONLY, "key")
        fields = raised.value.fields
        outcomes = {item["index"]: item["outcome"] for item in fields["items"]}
        expected = {
            n: {0: "not_applied", 1: "unknown"}[shard_of(f"p{n:03d}")] for n in range(9) if shard_of(f"p{n:03d}") != 2
        } | {9: "not_applied"}
        assert outcomes == expected and [item["id"] for item in fields["items"]][-1] == ""
        assert fields["applied"] == 9 - len(expected) + 1 and list(fields["seq"]) == [2]
        assert fields["applied"] + fields["not_applied"] + fields["unknown"] == 10
        store.faults = {}
        again = await engine.write_points("docs", body, WriteMode.INSERT_ONLY, "key")
        assert again.applied == 9 and [item.index for item in again.items] == [9]
        assert await engine.write_points("docs", body, WriteMode.INSERT_ONLY, "key") == again
        assert await stored(engine) == {f"p{n:03d}": 1 for n in range(9)}


async def test_vectors_that_replace_deletes_and_changes_of_metadata_say_it_too(tmp_path: Path) -> None:
    ids = [f"p{n:03d}" for n in range(30)]
    shards = [shard_of(i) for i in ids]
    last = list(dict.fromkeys(shards))[-1]
    async with faulty(tmp_path) as (engine, store):
        await engine.write_points("docs", sent(range(30)), WriteMode.UPSERT)
        store.faults = {last: "full"}
        for value, chosen in enumerate((ids, None), 7):
            with pytest.raises(InsufficientStorage) as raised:
                await engine.set_metadata("docs", chosen, None if chosen else GERMAN, {"v": value})
            changed = {i for i, v in (await stored(engine)).items() if v == value}
            assert _left(raised.value, ids) == dict.fromkeys(set(ids) - changed, "not_applied")
            assert raised.value.fields.get("applied", 0) == len(changed) <= 30 - shards.count(last)
        store.faults = {last: "answer"}
        with pytest.raises(StoreUnavailable) as lost:
            await engine.delete_points("docs", ids)
        unknown = {item["id"] for item in lost.value.fields["items"] if item["outcome"] == "unknown"}
        assert unknown == {i for i in ids if shard_of(i) == last}
        assert set(await stored(engine)) <= unknown and lost.value.fields["unknown"] == len(unknown)
        store.faults = {}
        assert (await engine.delete_points("docs", ids)).points == 0


async def test_a_change_that_is_refused_for_one_point_says_what_was_changed_before(tmp_path: Path) -> None:
    async with faulty(tmp_path) as (engine, _):
        big = point(40, CODES[0], lang="de", v=0, text="x" * 64_000)
        await engine.write_points("docs", [*sent(range(20)), big], WriteMode.UPSERT)
        with pytest.raises(InvalidMetadata) as raised:
            await engine.set_metadata("docs", None, GERMAN, {"v": 5, "more": "y" * 10_000})
        changed = [i for i, v in (await stored(engine)).items() if v == 5]
        assert raised.value.fields.get("applied", 0) == len(changed)


@pytest.mark.parametrize(("limit", "value"), [("MAX_COMMIT_OPERATIONS", 4), ("MAX_COMMIT_BYTES", 900)])
async def test_a_batch_over_the_limits_of_a_commit_is_split_with_the_same_promises(
    tmp_path: Path, limit: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    async with faulty(tmp_path) as (engine, store):
        monkeypatch.setattr(operations, limit, value)
        body = [point(n, CODES[n], v=1, text="x" * 60) for n in range(60)]
        store.faults = {1: "answer"}
        with pytest.raises(StoreUnavailable) as raised:
            await engine.write_points("docs", body, WriteMode.INSERT_ONLY, "key")
        sizes.append(raised.value.fields["unknown"])
        assert raised.value.fields["applied"] + sizes[0] + raised.value.fields["not_applied"] == 60
        store.faults = {}
        again = await engine.write_points("docs", body, WriteMode.INSERT_ONLY, "key")
        assert (again.applied, again.rejected) == (60, 0) and len(await stored(engine)) == 60


@pytest.mark.parametrize("seed", range(3))
async def test_random_writes_with_failing_shards_and_keys_equal_a_model(tmp_path: Path, seed: int) -> None:
    """Every id has the values that the answers allow; a conflict changes nothing; a retry with its key settles all."""
    rng = np.random.default_rng(seed)
    may: dict[str, set[int | None]] = {f"p{n:03d}": {None} for n in range(60)}
    bodies: dict[str, list[dict[str, Any]]] = {}
    async with faulty(tmp_path) as (engine, store):
        for step in range(60):
            faults = rng.choice(["", "", "", "full", "lost", "answer"], SHARDS)
            store.faults = {shard: str(fault) for shard, fault in enumerate(faults) if fault}
            numbers = [int(n) for n in rng.choice(60, int(rng.integers(1, 9)), replace=False)]
            key = f"k{rng.integers(12)}" if rng.random() < 0.6 else None
            body = sent(numbers, step)
            if rng.random() < 0.2:
                await _delete(engine, [one["id"] for one in body], may)
            elif key in bodies and rng.random() < 0.5:
                before = await stored(engine)
                with pytest.raises(IdempotencyConflict):
                    await engine.write_points("docs", body, WriteMode.UPSERT, key)
                assert await stored(engine) == before
            elif key is None or key not in bodies:
                await _write(engine, body, key, may)
                if key is not None:
                    bodies[key] = body
            found = await stored(engine)
            assert all(found.get(i) in values for i, values in may.items()), step
            may = {i: {found.get(i)} for i in may}
        store.faults = {}
        for key, body in bodies.items():
            assert (await engine.write_points("docs", body, WriteMode.UPSERT, key)).applied == len(body)


async def _write(engine: Engine, body: list[dict[str, Any]], key: str | None, may: dict[str, set[int | None]]) -> None:
    wanted = {one["id"]: one["metadata"]["v"] for one in body}
    left: dict[str, str] = {}
    try:
        await engine.write_points("docs", body, WriteMode.UPSERT, key)
    except BebrError as error:
        left = _left(error, list(wanted))
    for i, value in wanted.items():
        may[i] = {"": {value}, "unknown": may[i] | {value}, "not_applied": may[i]}[left.get(i, "")]


async def _delete(engine: Engine, ids: list[str], may: dict[str, set[int | None]]) -> None:
    left: dict[str, str] = {}
    try:
        await engine.delete_points("docs", ids)
    except BebrError as error:
        left = _left(error, ids)
    for i in ids:
        may[i] = {"": {None}, "unknown": may[i] | {None}, "not_applied": may[i]}[left.get(i, "")]


def _left(error: BebrError, ids: list[str]) -> dict[str, str]:
    """By id: what the error says of it. Without `items` nothing was applied."""
    if "items" not in error.fields:
        return dict.fromkeys(ids, "not_applied")
    return {item["id"]: item["outcome"] for item in error.fields["items"]}


async def test_a_retry_that_finds_other_points_valid_says_what_it_did(tmp_path: Path) -> None:
    """Between the two attempts the bad point became good, or the good one bad: no receipt of the other is its own."""
    mine = of_shard(0, 2)
    good, long = ([point(n, CODES[n], lang="de", v=v) for v, n in enumerate(mine)] for _ in range(2))
    long[0]["metadata"]["text"] = "x" * 70_000
    async with faulty(tmp_path) as (engine, _):
        first = await engine.write_points("docs", [good[1], {"id": 7}], WriteMode.INSERT_ONLY, "a")
        assert first.applied == 1
        assert (await engine.write_points("docs", [good[1], {"id": 7}], WriteMode.INSERT_ONLY, "a")) == first
        body = [long[0], good[1]]
        assert (await engine.write_points("docs", body, WriteMode.UPSERT, "b")).applied == 1
        larger = replace(engine.limits, max_metadata_bytes=100_000)
        engine._writer._limits = larger
        assert (await engine.write_points("docs", body, WriteMode.UPSERT, "b")).applied == 2
        assert set(await stored(engine)) == {one["id"] for one in body}
