"""Random operations, with restarts in between, against a plain dict: hypothesis looks for a way to disagree."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.store.points import MakeStore, commit, put

from bebr.core.types import StoredPoint, WriteMode
from bebr.store import Committed, DeleteWrite, FeedEntry, MetadataStore, PutWrite, Receipt, ShardCounters, Write

ids = st.lists(st.sampled_from("abcdefg"), unique=True, max_size=5)
receipts = st.none() | st.sampled_from([Receipt("k1", b"1"), Receipt("k2", b"2")])
put_writes = st.builds(
    lambda ids, seed, version, mode, receipt: put(*ids, seed=seed, version=version, mode=mode, receipt=receipt),
    ids,
    st.integers(0, 255),
    st.integers(1, 3),
    st.sampled_from(WriteMode),
    receipts,
)
writes = st.lists(put_writes | st.builds(DeleteWrite, ids, receipts), max_size=4)
Result = TypeVar("Result")


class ShardModel:
    """What a shard means, in the plainest way."""

    def __init__(self) -> None:
        self.entries: dict[str, FeedEntry] = {}
        self.counters = ShardCounters(0, 0)
        self.receipts: dict[str, Committed] = {}

    def apply(self, write: Write) -> Committed:
        if write.receipt and write.receipt.key in self.receipts:
            known = self.receipts[write.receipt.key]
            return Committed(known.applied, known.first_seq, known.last_seq, replayed=True)
        first_seq = self.counters.last_seq + 1
        committed = Committed([self._apply_one(write, id) for id in write.ids], first_seq, self.counters.last_seq)
        if write.receipt:
            self.receipts[write.receipt.key] = committed
        return committed

    def _apply_one(self, write: Write, id: str) -> bool:
        living = id in self.entries and self.entries[id].record is not None
        seq = self.counters.last_seq + 1
        if isinstance(write, DeleteWrite):
            if not living:
                return False
            entry = FeedEntry(seq, id, 0, None, None)
        else:
            if living if write.mode is WriteMode.INSERT_ONLY else write.mode is WriteMode.UPDATE_ONLY and not living:
                return False
            entry = FeedEntry(seq, id, write.puts.version, _record(write, id), _metadata(write, id))
        self.entries[id] = entry
        gained = (entry.record is not None) - living
        self.counters = ShardCounters(self.counters.points + gained, seq, self.counters.purged_seq)
        return True

    def purge(self, up_to_seq: int) -> int:
        purged = [entry for entry in self.entries.values() if entry.record is None and entry.seq <= up_to_seq]
        for entry in purged:
            del self.entries[entry.id]
        highest = max([self.counters.purged_seq, *(entry.seq for entry in purged)])
        self.counters = ShardCounters(self.counters.points, self.counters.last_seq, highest)
        return len(purged)


def _record(write: PutWrite, id: str) -> bytes:
    return write.puts.records[write.ids.index(id)].tobytes()


def _metadata(write: PutWrite, id: str) -> str:
    return write.puts.metadata[write.ids.index(id)]


def machine_of(make_store: MakeStore) -> type[RuleBasedStateMachine]:
    """A state machine over one kind of store; every run uses a collection of its own."""
    runs = iter(range(10**6))

    class StoreMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.runner = asyncio.Runner()
            self.uid = f"{next(runs):016x}"
            self.shards = [ShardModel(), ShardModel()]
            self.store: MetadataStore = make_store()
            self.run(self.store.open())
            self.run(self.store.create(self.uid, 2))

        def run(self, call: Awaitable[Result]) -> Result:
            return self.runner.run(_awaited(call))

        def teardown(self) -> None:
            self.run(self.store.drop(self.uid))
            self.run(self.store.close())
            self.runner.close()

        @rule(shard=st.integers(0, 1), writes=writes)
        def commit(self, shard: int, writes: list[Write]) -> None:
            expected = [self.shards[shard].apply(write) for write in writes]
            assert self.run(commit(self.store, shard, writes, uid=self.uid)) == expected

        @rule(shard=st.integers(0, 1), up_to_seq=st.integers(0, 30))
        def purge(self, shard: int, up_to_seq: int) -> None:
            expected = self.shards[shard].purge(up_to_seq)
            assert self.run(self.store.purge_tombstones(self.uid, shard, up_to_seq)) == expected

        @rule(shard=st.integers(0, 1), after_seq=st.integers(0, 30), limit=st.integers(1, 5))
        def read_feed(self, shard: int, after_seq: int, limit: int) -> None:
            entries = sorted(entry for entry in self.shards[shard].entries.values() if entry.seq > after_seq)
            assert self.run(self.store.feed(self.uid, shard, after_seq, limit)).entries == entries[:limit]

        @rule(shard=st.integers(0, 1), wanted=ids)
        def fetch(self, shard: int, wanted: list[str]) -> None:
            entries = [self.shards[shard].entries.get(id) for id in wanted]
            expected = [
                StoredPoint(entry.id, entry.seq, entry.version, entry.record, entry.metadata or "")
                if entry and entry.record is not None
                else None
                for entry in entries
            ]
            assert self.run(self.store.fetch(self.uid, shard, wanted, records=True)) == expected

        @rule()
        def reopen(self) -> None:
            self.run(self.store.close())
            self.store = make_store()
            self.run(self.store.open())

        @invariant()
        def the_feed_is_the_model(self) -> None:
            for shard, model in enumerate(self.shards):
                feed = self.run(self.store.feed(self.uid, shard, 0, 1000)).entries
                assert feed == sorted(model.entries.values())
                assert self.run(self.store.counters(self.uid, shard)) == model.counters

    return StoreMachine


async def _awaited(call: Awaitable[Result]) -> Result:
    return await call


def test_a_store_is_a_dict_that_survives(make_store: MakeStore) -> None:
    run_state_machine_as_test(
        machine_of(make_store),
        settings=settings(
            max_examples=25,
            stateful_step_count=20,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
