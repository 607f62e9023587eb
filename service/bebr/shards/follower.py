"""A follower keeps the view of one shard equal to the store, by the feed or by the commits that it is told of.

A view that cannot be brought up to the store any more (the store lost what it had acknowledged, or has purged deletes
that the view never saw) is rebuilt: a second shard is filled beside it, in a folder of its own, and takes its place as
soon as it is equal to the store. Until then readers see the old view; after a crash the next start finds one of them.

Where another process writes the files, `files_follower.py` reads them.

Whether the store still has what the view has is told by the mark of the view's last operation, and at the start by that
of its checkpoint and by the note of what the store acknowledged last (`note.py`).
"""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from bebr.core.codes import CodeSpec
from bebr.core.history import History, Loss
from bebr.core.lists import Centroids
from bebr.core.operations import FeedEntry, FeedPage, ShardCounters
from bebr.core.types import Puts, Role
from bebr.errors import CollectionNotFound, DamagedSegment, DamagedStore, NotReady
from bebr.index.segment import ANY_SIZE
from bebr.index.shard import Shard
from bebr.index.shard_files import rebuilt_folder
from bebr.index.view import ShardView
from bebr.shards.changes import Fields, values_of, with_values_of
from bebr.shards.note import NOTHING, Note, note_path, read_note, write_note
from bebr.shards.runs import Done, Run, follow_on, last_applied
from bebr.shards.shared_seqs import Acknowledged
from bebr.shards.truth import Truth
from bebr.telemetry import event

log = logging.getLogger(__name__)
FEED_PAGE = 5_000
MAX_REBUILDS = 3
"""Files that were just written and are damaged again are a disk that nothing can be built on."""
MAX_LOGGED = 20
"""Damaged points of one page that the log names."""
INLINE_OPERATIONS = 64
"""Up to this many operations are applied on the event loop: a thread would cost more."""


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
        self._note_path = note_path(folder.parent, number)
        self._note = NOTHING
        self.problem: str | None = None
        """Why the view is not what the store has, while it is rebuilt."""
        self.rebuilds = 0
        self._reported = ""
        self.behind = 0
        """Operations of the store that are still to be applied, at most, while the view catches up."""
        self.losses = 0
        """How often the store was found to have lost what it had acknowledged."""
        self.fields = fields
        """The filterable fields whose columns rows have."""
        self._specs, self._head_rows, self._lists = specs, head_rows, lists
        self._map_from_bytes = map_from_bytes
        self._purged_seq = 0
        self._catching_up = False
        self._distrusted = False
        """The view may have what the store has not."""
        self.damaged = 0
        """Points of the store that were found damaged, and are not in the view."""
        self._damage: str | None = None
        """Why the files of the view cannot be read any more; what it holds in memory is right all the same."""
        self.damaged_files = 0
        """How often a damaged file was found, at the start or later."""
        self._last: tuple[int, str] | None = None
        """Seq and id of the last operation that the view took, where it is known."""
        self.shard = self._new_shard(folder)

    @property
    def view(self) -> ShardView:
        """What readers see now."""
        return self.shard.view

    def open(self, fields_change: bool = False) -> None:
        """Map the files that are there; where they are damaged, the shard starts empty and says why.

        fields_change: columns of some fields are still to be made.
        """
        self.shard.open(fields_change)
        self._note = read_note(self._note_path)

    def close(self, keep: bool) -> None:
        """`keep`: save the state, so that the next start is quick. Raises OSError."""
        if keep:
            self.shard.flush()
            self._take_note(closed=True)
        else:
            self.shard.forget()

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
        if seq > self._purged_seq and not self._catching_up:
            await self._truth.purge_tombstones(self._uid, self._number, seq)
            self._purged_seq = seq

    async def _try_to_catch_up(self) -> bool:
        """False where tombstones were purged that this has not read: the view may hold what was deleted."""
        shard, page = await self._begin()
        if (points := await self._replay_all(shard, page)) is None:
            return False
        if shard is not self.shard:
            await self._serve(shard)
            self._damage = None
        self._reported = ""
        self._distrusted = False
        self._note_missing(points - sum(self.view.points.values()))
        self._take_note()
        return True

    async def _begin(self) -> tuple[Shard, FeedPage]:
        """What is to be caught up, the shard that is served or one beside it, and the first page for it."""
        shard = self.shard
        await self._truth.history(self._uid, self._number)  # the store takes nothing from who wrote before, from now on
        page = await self._page_after(shard)
        self._report(page.history.lost(self._note.mark) or page.history.lost(shard.mark), page.history)
        if why := await self._why_rebuild(page.counters, page.history):
            self._note_rebuild(why)
        if why or self._damage:
            self.damaged = 0
            shard = self._new_shard(rebuilt_folder(shard.folder))
            await asyncio.to_thread(shard.clear)
            page = await self._page_after(shard)
        return shard, page

    async def _serve(self, shard: Shard) -> None:
        """Let a shard that was filled beside take the place of the one that was served."""
        await asyncio.to_thread(shard.take_place_of, self.shard)
        event(log, "the shard is rebuilt", **self._names, seq=shard.seq)
        if self._acknowledged is not None:
            self._acknowledged.begin_build()
        self.shard, self._purged_seq = shard, 0

    def _note_missing(self, missing: int) -> None:
        """missing: points that the store has and the view has not, of now and of earlier runs."""
        if missing > self.damaged:
            log.error(
                "shard %d of collection %s: %d points of the store are damaged and left out; see `bebr verify`",
                self._number,
                self._name,
                missing,
            )
            self.damaged = missing

    def leave_out(self, ids: Sequence[str]) -> None:
        """Take points out of the view that the store has found damaged: nothing can be made of them."""
        self.shard.leave_out(ids)
        self.damaged += len(ids)
        for point_id in ids[:MAX_LOGGED]:
            log.error("collection %s: point %r is damaged in the store and left out", self._name, point_id)

    def _report(self, loss: Loss | None, history: History) -> None:
        """Raises DamagedStore where the store cannot have lost it but by damage: it died while it was written to."""
        self._note_loss(loss)
        if loss is None:
            return
        if loss.in_epoch and history.lossless and not self._note.closed and self.shard.history is None:
            raise DamagedStore(
                f"{loss.reason} in shard {self._number}: a part of its file or of its -wal file is missing. Restore "
                f"the store from a backup; or, to go on with what is left, stop the service, delete "
                f"{self.shard.folder.parent}, which is then made anew from the store, and start again"
            )

    def _note_loss(self, loss: Loss | None) -> None:
        if loss is not None and loss.reason != self._reported:  # not again where it is tried again
            self._reported = loss.reason
            self.losses += 1
            event(log, "the store lost acknowledged writes", logging.ERROR, **self._names, why=loss.reason)

    async def _why_rebuild(self, counters: ShardCounters, history: History) -> str | None:
        """Why what the store says after the view's seq would not make the view equal to it."""
        seq = self.shard.seq
        # also where only the note is lost: masks of a checkpoint may know of deletes that came after its seq
        if loss := history.lost(self._note.mark) or history.lost(self.shard.mark):
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
            self._note = Note(self.shard.mark, closed)
            write_note(self._note_path, self._note)
        if self._acknowledged is not None and not closed:
            self._acknowledged.tell(self.shard.seq)

    async def _is_distrusted(self) -> bool:
        """Whether the view has what the store has not: in the store the seq of its last operation has another id."""
        if self._distrusted or self._last is None:
            return self._distrusted
        seq, point_id = self._last
        entries = (await self._truth.feed(self._uid, self._number, seq - 1, 1)).entries
        return bool(entries) and entries[0].seq == seq and entries[0].id != point_id

    async def _page_after(self, shard: Shard) -> FeedPage:
        return await self._truth.feed(self._uid, self._number, shard.seq, FEED_PAGE)

    async def _replay_all(self, shard: Shard, page: FeedPage) -> int | None:
        """Apply the feed from where the shard is -> how many points the store has at that moment.

        page: the first one. None: the feed does not lead on from what the shard has; the next attempt tells why.
        """
        first, known_seq = page.counters.last_seq, max(shard.seq, page.counters.purged_seq)
        self._last = None if shard is not self.shard else self._last
        while True:
            if page.counters.purged_seq > known_seq or page.history.lost(shard.mark):
                return None
            shard.history = page.history
            self.behind = max(0, first - shard.seq)
            if page.entries and len(page.entries) <= INLINE_OPERATIONS:
                self._replay(shard, page.entries)
            elif page.entries:
                await asyncio.to_thread(self._replay, shard, page.entries)
            if page.entries:
                self._last = page.entries[-1].seq, page.entries[-1].id
                if shard.needs_maintenance:
                    await asyncio.to_thread(shard.maintain)
            if not page.entries or shard.seq == page.counters.last_seq:
                break
            self.behind = max(0, first - shard.seq)
            page = await self._page_after(shard)
        self.behind = 0
        shard.apply([], [], page.counters.last_seq)  # the last operations may be purged deletes, which no feed has
        return page.counters.points

    def _replay(self, shard: Shard, entries: Sequence[FeedEntry]) -> None:
        if unknown := {entry.version for entry in entries if entry.record is not None} - self._specs.keys():
            raise NotReady(f"the store has points of code versions {sorted(unknown)}, which are not known here yet")
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
            metadata = [json.loads(entry.metadata or "{}") for entry in some] if self.fields else [{}] * len(some)
            puts.append((Puts([e.id for e in some], version, records, []), values_of(metadata, self.fields)))
        shard.apply(puts, deletes, entries[-1].seq)

    def _apply(self, done: Sequence[Done]) -> None:
        """Small writes are joined to as few changes of the view as their ids allow; large ones gain nothing by it."""
        run = Run()
        for change, committed in done:
            if not run.takes(change):
                run.apply_to(self.shard)
                run = Run()
            run.add(change, committed)
        run.apply_to(self.shard)
        self._last = last_applied(done) or self._last

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
