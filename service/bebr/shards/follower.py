"""A follower keeps the view of one shard equal to the store, by the feed or by the commits that it is told of.

A view that cannot be brought up to the store any more (the store lost what it had acknowledged, or has purged deletes
that the view never saw) is rebuilt: a second shard is filled beside it, in a folder of its own, and takes its place as
soon as it is equal to the store. Until then readers see the old view; after a crash the next start finds one of them.

Where another process writes the files, `files_follower.py` reads them.

Whether the store still has what the view has is told by the mark of the view's last operation, and at the start by that
of its checkpoint and by the note of what the store acknowledged last (`losses.py`).
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from bebr.core.codes import CodeSpec
from bebr.core.history import History
from bebr.core.lists import Centroids
from bebr.core.operations import FeedPage, ShardCounters
from bebr.core.types import Role
from bebr.errors import CollectionNotFound, DamagedSegment
from bebr.index.segment import ANY_SIZE
from bebr.index.shard import Shard
from bebr.index.shard_files import rebuilt_folder
from bebr.index.view import ShardView
from bebr.shards.changes import Fields, with_values_of
from bebr.shards.losses import Losses
from bebr.shards.replay import Replay
from bebr.shards.runs import INLINE_OPERATIONS, Done, Run, follow_on, last_applied
from bebr.shards.shared_seqs import Acknowledged
from bebr.shards.truth import Truth
from bebr.telemetry import event

log = logging.getLogger(__name__)
MAX_REBUILDS = 3
"""Files that were just written and are damaged again are a disk that nothing can be built on."""


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
        map_from_bytes: int = ANY_SIZE,
        name: str = "",
        lists: Mapping[int, Centroids] | None = None,
        role: Role = Role.PRIMARY,
        acknowledged: Acknowledged | None = None,
    ) -> None:
        """acknowledged: tells followers what readers of this primary see."""
        self._role = role
        self._acknowledged = acknowledged
        self._truth, self._uid, self._number = truth, uid, number
        self._name = name or uid
        self._names: dict[str, Any] = {"collection": self._name, "shard": number}
        self._losses = Losses(folder.parent, number, self._names)
        self._replay = Replay(truth, uid, number, self._name)
        self.problem: str | None = None
        """Why the view is not what the store has, while it is rebuilt."""
        self.rebuilds = 0
        self.fields = fields
        """The filterable fields whose columns rows have."""
        self._specs, self._head_rows, self._lists = specs, head_rows, lists
        self._map_from_bytes = map_from_bytes
        self._catching_up = False
        self._distrusted = False
        """The view may have what the store has not."""
        self._damage: str | None = None
        """Why the files of the view cannot be read any more; what it holds in memory is right all the same."""
        self.damaged_files = 0
        """How often a damaged file was found, at the start or later."""
        self.shard = self._new_shard(folder)

    @property
    def view(self) -> ShardView:
        """What readers see now."""
        return self.shard.view

    @property
    def behind(self) -> int:
        """Operations of the store that are still to be applied, at most, while the view catches up."""
        return self._replay.behind

    @property
    def damaged(self) -> int:
        """Points of the store that were found damaged, and are not in the view."""
        return self._replay.damaged

    @property
    def losses(self) -> int:
        """How often the store was found to have lost what it had acknowledged."""
        return self._losses.count

    def open(self, fields_change: bool = False) -> None:
        """Map the files that are there; where they are damaged, the shard starts empty and says why.

        fields_change: columns of some fields are still to be made.
        """
        self.shard.open(fields_change)
        self._losses.read_note()

    def close(self, keep: bool) -> None:
        """`keep`: save the state, so that the next start is quick. Raises OSError."""
        if keep:
            self.shard.flush()
            self._take_note(closed=True)
        else:
            self.shard.forget()

    def drop(self) -> None:
        """Let go of the shard, and remove its files; nothing may be asked any more."""
        self.shard.drop()

    def set_fields(self, fields: Fields) -> None:
        """Rows that come from now on have columns of these fields; `Shard.add_columns` gives them to the others."""
        self.fields = fields
        self.shard.set_fields(fields)

    async def apply(self, done: Sequence[Done]) -> bool:
        """Bring the view to where the store is after these commits, in order.

        False where they do not follow on what the view has, or a file of it is damaged: `catch_up` must come first.
        """
        replayed = max([committed.last_seq for _, committed in done if committed.replayed], default=0)
        done = [(with_values_of(write, self.fields), made) for write, made in done if not made.replayed]
        if not done:
            return replayed <= self.shard.seq  # else nobody was told of the commit when it happened
        if not follow_on(done, self.shard.seq):
            self._distrusted |= done[0][1].first_seq <= self.shard.seq  # the store lost what it had acknowledged
            return False
        if not self._note_epochs(done):
            return False  # the store may have lost what the view has, and have as many operations again
        try:
            if sum(len(committed.applied) for _, committed in done) <= INLINE_OPERATIONS:
                self._apply(done)
            else:
                await asyncio.to_thread(self._apply, done)
        except DamagedSegment as damage:
            self.distrust(damage)
            return False
        self._take_note()
        return replayed <= self.shard.seq

    def _note_epochs(self, done: Sequence[Done]) -> bool:
        """Whether the commits are of an epoch that is known, or that they have begun where the view ends."""
        for _, committed in done:
            if committed.epoch is None or self.shard.history is None or committed.first_seq > committed.last_seq:
                continue
            history = self.shard.history.after(committed.epoch, committed.first_seq - 1)
            if history is None:
                return False
            self.shard.history = history
        return True

    async def catch_up(self) -> None:
        """Apply everything that the store has and the view has not; rebuild the view where that is not enough.

        Raises DamagedStore where the store lost what it had acknowledged although it cannot, unless it is damaged.
        """
        self._catching_up = True
        try:
            for attempt in count(1):
                try:
                    if await self._try_to_catch_up():
                        break
                    self._distrusted = True
                except DamagedSegment as damage:
                    if attempt == MAX_REBUILDS:
                        raise
                    self.distrust(damage)
            self.problem = None
        except CollectionNotFound as error:
            self.problem = error.detail
            raise
        finally:
            self._catching_up = False

    def distrust(self, damage: DamagedSegment) -> None:
        """A file of the view is damaged: the next `catch_up` builds it anew, beside the one that is served."""
        self._damage = damage.detail
        self.damaged_files += 1
        event(log, "segment damaged", logging.ERROR, collection=self._name, shard=self._number, reason=damage.detail)

    async def purge(self) -> None:
        """Let the store forget the tombstones that this shard has on disk."""
        seq = self.shard.checkpoint_seq
        if seq and not self._catching_up:  # each time: others may have been behind
            await self._truth.purge_tombstones(self._uid, self._number, seq)

    async def _try_to_catch_up(self) -> bool:
        """False where tombstones were purged that this has not read: the view may hold what was deleted."""
        shard, page = await self._begin()
        if shard is not self.shard:
            self._replay.last = None
        if (points := await self._replay.run(shard, page)) is None:
            return False
        if shard is not self.shard:
            await self._serve(shard)
            self._damage = None
        self._losses.caught_up()
        self._distrusted = False
        self._replay.note_missing(points - sum(self.view.points.values()))
        self._take_note()
        return True

    async def _begin(self) -> tuple[Shard, FeedPage]:
        """What is to be caught up, the shard that is served or one beside it, and the first page for it."""
        shard = self.shard
        await self._truth.history(self._uid, self._number)  # the store takes nothing from who wrote before, from now on
        page = await self._replay.page_after(shard)
        self._losses.report(page.history, shard)
        if why := await self._why_rebuild(page.counters, page.history):
            self._note_rebuild(why)
        if why or self._damage:
            self._replay.damaged = 0
            shard = self._new_shard(rebuilt_folder(shard.folder))
            await asyncio.to_thread(shard.clear)
            page = await self._replay.page_after(shard)
        return shard, page

    async def _serve(self, shard: Shard) -> None:
        """Let a shard that was filled beside take the place of the one that was served."""
        await asyncio.to_thread(shard.take_place_of, self.shard)
        event(log, "the shard is rebuilt", **self._names, seq=shard.seq)
        if self._acknowledged is not None:
            self._acknowledged.begin_build()
        self.shard = shard

    def leave_out(self, ids: Sequence[str]) -> None:
        """Take points out of the view that the store has found damaged: nothing can be made of them."""
        self.shard.leave_out(ids)
        self._replay.note_damaged(ids)

    async def _why_rebuild(self, counters: ShardCounters, history: History) -> str | None:
        """Why what the store says after the view's seq would not make the view equal to it."""
        seq = self.shard.seq
        if loss := self._losses.find(history, self.shard.mark):
            return loss.reason
        if counters.last_seq < seq or await self._is_distrusted():
            return f"the store went back from {seq} to {counters.last_seq} or less"
        if 0 < seq < counters.purged_seq:
            return f"deletes after {seq} are no longer in the store"
        return None

    def _note_rebuild(self, why: str) -> None:
        self.problem = f"shard {self._number} is rebuilt: {why}"
        self.rebuilds += 1
        event(log, "a shard is rebuilt from the store", logging.WARNING, **self._names, why=why)

    def _take_note(self, closed: bool = False) -> None:
        """Note what the store has acknowledged, and tell followers of it."""
        if self.shard.history is not None:
            self._losses.take_note(self.shard.mark, closed)
        if self._acknowledged is not None and not closed:
            self._acknowledged.tell(self.shard.seq)

    async def _is_distrusted(self) -> bool:
        """Whether the view has what the store has not: in the store the seq of its last operation has another id."""
        if self._distrusted or self._replay.last is None:
            return self._distrusted
        seq, point_id = self._replay.last
        entries = (await self._truth.feed(self._uid, self._number, seq - 1, 1)).entries
        return bool(entries) and entries[0].seq == seq and entries[0].id != point_id

    def _apply(self, done: Sequence[Done]) -> None:
        """Small writes are joined to as few changes of the view as their ids allow; large ones gain nothing by it."""
        run = Run()
        for change, committed in done:
            if not run.takes(change):
                run.apply_to(self.shard)
                run = Run()
            run.add(change, committed)
        run.apply_to(self.shard)
        self._replay.last = last_applied(done) or self._replay.last

    def _new_shard(self, folder: Path) -> Shard:
        return Shard(
            folder,
            self._specs,
            self.fields,
            self._head_rows,
            self._lists,
            self._map_from_bytes,
            self._role,
            shares=self._acknowledged is not None,
        )
