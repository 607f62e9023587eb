"""A follower keeps the view of one shard equal to the store, by the feed or by the commits that it is told of.

A view that cannot be brought up to the store any more (the store lost what it had acknowledged, or has purged deletes
that the view never saw) is rebuilt: a second shard is filled beside it, in a folder of its own, and takes its place as
soon as it is equal to the store. Until then readers see the old view; after a crash the next start finds one of them.
"""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bebr.core.codes import CodeSpec
from bebr.core.operations import Committed, DeleteWrite, FeedEntry
from bebr.core.types import Puts
from bebr.index.shard import Shard
from bebr.index.shard_files import rebuilt_folder
from bebr.index.view import ShardView
from bebr.shards.changes import Fields, ShardWrite, Values, values_of
from bebr.shards.truth import Truth

log = logging.getLogger(__name__)
FEED_PAGE = 5_000
MAX_LOGGED = 20
"""Damaged points of one page that the log names."""
INLINE_OPERATIONS = 64
"""Up to this many operations are applied on the event loop: a thread would cost more."""
MAX_JOINED_OPERATIONS = 64
"""Writes of more operations change the view by themselves."""
Done = tuple[ShardWrite, Committed]


class Follower:
    """`apply` and `catch_up` are called one at a time. No commit to the shard may be under way during a `catch_up`, or
    wait for its `apply`: what the view has then comes from the feed alone. `view` may be read at any time."""

    def __init__(
        self,
        truth: Truth,
        uid: str,
        number: int,
        folder: Path,
        *,
        specs: Mapping[int, CodeSpec],
        fields: Fields,
        head_rows: int,
        name: str = "",
    ) -> None:
        self._truth, self._uid, self._number = truth, uid, number
        self._name = name or uid
        self._specs, self._fields, self._head_rows = specs, fields, head_rows
        self._purged_seq = 0
        self._catching_up = False
        self._distrusted = False
        """The view may have what the store has not."""
        self.damaged = 0
        """Points of the store that were found damaged, and are not in the view."""
        self._last: tuple[int, str] | None = None
        """Seq and id of the last operation that the view took, where it is known."""
        self.shard = self._new_shard(folder)

    @property
    def view(self) -> ShardView:
        """What readers see now."""
        return self.shard.view

    def open(self) -> None:
        """Map the files that are there; where they are damaged, the shard starts empty and says why."""
        self.shard.open()

    async def apply(self, done: Sequence[Done]) -> bool:
        """Bring the view to where the store is after these commits, in order.

        False where they do not follow on what the view has: nothing was done, and `catch_up` must come first.
        """
        done = [(write, committed) for write, committed in done if not committed.replayed]
        if not done:
            return True
        if not _follow_on(done, self.shard.seq):
            self._distrusted |= done[0][1].first_seq <= self.shard.seq  # the store lost what it had acknowledged
            return False
        if sum(len(committed.applied) for _, committed in done) <= INLINE_OPERATIONS:
            self._apply(done)
        else:
            await asyncio.to_thread(self._apply, done)
        return True

    async def catch_up(self) -> None:
        """Apply everything that the store has and the view has not; rebuild the view where that is not enough."""
        self._catching_up = True
        try:
            while not await self._try_to_catch_up():
                self._distrusted = True
        finally:
            self._catching_up = False

    async def purge(self) -> None:
        """Let the store forget the tombstones that this shard has on disk."""
        seq = self.shard.checkpoint_seq
        if seq > self._purged_seq and not self._catching_up:
            await self._truth.purge_tombstones(self._uid, self._number, seq)
            self._purged_seq = seq

    async def _try_to_catch_up(self) -> bool:
        """False where tombstones were purged that this has not read: the view may hold what was deleted."""
        before = await self._truth.counters(self._uid, self._number)
        shard = self.shard
        if before.last_seq < shard.seq or 0 < shard.seq < before.purged_seq or await self._is_distrusted():
            shard = self._new_shard(rebuilt_folder(self.shard.folder))
            self.damaged = 0
            await asyncio.to_thread(shard.clear)
        known_seq = max(shard.seq, before.purged_seq)
        last = await self._replay_all(shard)
        shard.apply([], [], before.last_seq)  # the last operations may be purged deletes, which no feed has
        after = await self._truth.counters(self._uid, self._number)
        if after.purged_seq > known_seq:
            return False
        if shard is not self.shard:
            await asyncio.to_thread(shard.take_place_of, self.shard)
            self.shard, self._purged_seq, self._last = shard, 0, None
        self._distrusted, self._last = False, last or self._last
        self._note_missing(after.points - sum(self.view.points.values()))
        return True

    def _note_missing(self, count: int) -> None:
        """count: points that the store has and the view has not, of now and of earlier runs."""
        if count > self.damaged:
            log.error(
                "shard %d of collection %s: %d points of the store are damaged and left out; see `bebr verify`",
                self._number,
                self._name,
                count,
            )
            self.damaged = count

    def leave_out(self, ids: Sequence[str]) -> None:
        """Take points out of the view that the store has found damaged: nothing can be made of them."""
        self.shard.leave_out(ids)
        self.damaged += len(ids)
        for point_id in ids[:MAX_LOGGED]:
            log.error("collection %s: point %r is damaged in the store and left out", self._name, point_id)

    async def _is_distrusted(self) -> bool:
        """Whether the view has what the store has not: in the store the seq of its last operation has another id."""
        if self._distrusted or self._last is None:
            return self._distrusted
        seq, point_id = self._last
        entries = await self._truth.feed(self._uid, self._number, seq - 1, 1)
        return bool(entries) and entries[0].seq == seq and entries[0].id != point_id

    async def _replay_all(self, shard: Shard) -> tuple[int, str] | None:
        """Apply the feed from where the shard is; seq and id of the last entry, if there was one."""
        last: tuple[int, str] | None = None
        while entries := await self._truth.feed(self._uid, self._number, shard.seq, FEED_PAGE):
            await asyncio.to_thread(self._replay, shard, entries)
            last = entries[-1].seq, entries[-1].id
            if shard.needs_maintenance:
                await asyncio.to_thread(shard.maintain)
        return last

    def _replay(self, shard: Shard, entries: Sequence[FeedEntry]) -> None:
        deletes = [entry.id for entry in entries if entry.record is None]
        damaged = [entry.id for entry in entries if entry.is_damaged]
        for point_id in damaged[:MAX_LOGGED]:
            log.error("collection %s: point %r is damaged in the store and left out", self._name, point_id)
        self.damaged += len(damaged)
        by_version: dict[int, list[FeedEntry]] = {}
        for entry in entries:
            if entry.record is not None:
                by_version.setdefault(entry.version, []).append(entry)
        puts = []
        for version, some in by_version.items():
            records = np.frombuffer(b"".join(e.record or b"" for e in some), np.uint8).reshape(len(some), -1)
            metadata = [json.loads(entry.metadata or "{}") for entry in some] if self._fields else [{}] * len(some)
            puts.append((Puts([e.id for e in some], version, records, []), values_of(metadata, self._fields)))
        shard.apply(puts, deletes, entries[-1].seq)

    def _apply(self, done: Sequence[Done]) -> None:
        """Small writes are joined to as few changes of the view as their ids allow; large ones gain nothing by it."""
        run = _Run()
        for change, committed in done:
            if not run.takes(change):
                run.apply_to(self.shard)
                run = _Run()
            run.add(change, committed)
        run.apply_to(self.shard)
        self._last = _last_applied(done) or self._last

    def _new_shard(self, folder: Path) -> Shard:
        return Shard(folder, self._specs, self._fields, self._head_rows)


class _Run:
    """Operations of several commits, no id twice, that become one change of the view."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._puts: dict[int, list[tuple[Puts, Values]]] = {}
        self._deletes: list[str] = []
        self._seq = 0

    def takes(self, change: ShardWrite) -> bool:
        return len(change.write.ids) <= MAX_JOINED_OPERATIONS and self._ids.isdisjoint(change.write.ids)

    def add(self, change: ShardWrite, committed: Committed) -> None:
        write, applied = change.write, committed.applied
        self._ids.update(write.ids)
        self._seq = committed.last_seq
        if isinstance(write, DeleteWrite):
            self._deletes += [i for i, yes in zip(write.ids, applied, strict=True) if yes]
        else:
            self._puts.setdefault(write.puts.version, []).append(_applied(write.puts, change.values, applied))

    def apply_to(self, shard: Shard) -> None:
        shard.apply([_joined(some) for some in self._puts.values()], self._deletes, self._seq)


def _joined(some: Sequence[tuple[Puts, Values]]) -> tuple[Puts, Values]:
    """Points of one code version as one batch, without their metadata, which views do not keep."""
    if len(some) == 1:
        return some[0]
    ids = [i for puts, _ in some for i in puts.ids]
    records = np.concatenate([puts.records for puts, _ in some])
    values = {key: [value for _, columns in some for value in columns[key]] for key in some[0][1]}
    return Puts(ids, some[0][0].version, records, []), values


def _follow_on(done: Sequence[Done], seq: int) -> bool:
    """Whether the commits took the very seqs that follow `seq`: nothing of the shard is missing between them."""
    for _, committed in done:
        if committed.first_seq != seq + 1:
            return False
        seq = committed.last_seq
    return True


def _last_applied(done: Sequence[Done]) -> tuple[int, str] | None:
    """Seq and id of the last operation that was applied, if one was."""
    for change, committed in reversed(done):
        if committed.last_seq >= committed.first_seq:
            places = [place for place, yes in enumerate(committed.applied) if yes]
            return committed.last_seq, change.write.ids[places[-1]]
    return None


def _applied(puts: Puts, values: Values, applied: list[bool]) -> tuple[Puts, Values]:
    """The points that were stored, and their values."""
    if all(applied):
        return puts, values
    keep = np.array(applied, bool)
    rows = np.flatnonzero(keep).tolist()
    kept = Puts([puts.ids[i] for i in rows], puts.version, puts.records[keep], [puts.metadata[i] for i in rows])
    return kept, {key: [column[i] for i in rows] for key, column in values.items()}
