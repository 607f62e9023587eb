"""Replay: the store's feed of one shard, applied to a view until the view has what the store has."""

import asyncio
import json
import logging
from collections.abc import Sequence

import numpy as np

from bebr.core.operations import FeedEntry, FeedPage
from bebr.core.types import Puts
from bebr.errors import NotReady
from bebr.index.shard import Shard
from bebr.shards.changes import Values, values_of
from bebr.shards.runs import INLINE_OPERATIONS
from bebr.shards.truth import Truth

log = logging.getLogger(__name__)
FEED_PAGE = 5_000
MAX_LOGGED = 20
"""Damaged points of one page that the log names."""


class Replay:
    """name: of the collection, for log lines."""

    def __init__(self, truth: Truth, uid: str, number: int, name: str) -> None:
        self._truth, self._uid, self._number, self._name = truth, uid, number, name
        self.behind = 0
        """Operations of the store that are still to be applied, at most, while the view catches up."""
        self.damaged = 0
        """Points of the store that were found damaged, and are not in the view."""
        self.last: tuple[int, str] | None = None
        """Seq and id of the last operation that the view took, where it is known."""

    async def page_after(self, shard: Shard) -> FeedPage:
        return await self._truth.feed(self._uid, self._number, shard.seq, FEED_PAGE)

    async def run(self, shard: Shard, page: FeedPage) -> int | None:
        """Apply the feed from where the shard is -> how many points the store has at that moment.

        page: the first one. None: the feed does not lead on from what the shard has; the next attempt tells why.
        """
        first, known_seq = page.counters.last_seq, max(shard.seq, page.counters.purged_seq)
        while True:
            if page.counters.purged_seq > known_seq or page.history.lost(shard.mark):
                return None
            shard.history = page.history
            self.behind = max(0, first - shard.seq)
            if page.entries and len(page.entries) <= INLINE_OPERATIONS:
                self._apply(shard, page.entries)
            elif page.entries:
                await asyncio.to_thread(self._apply, shard, page.entries)
            if page.entries:
                self.last = page.entries[-1].seq, page.entries[-1].id
                if shard.needs_maintenance:
                    await asyncio.to_thread(shard.maintain)
            if not page.entries or shard.seq == page.counters.last_seq:
                break
            self.behind = max(0, first - shard.seq)
            page = await self.page_after(shard)
        self.behind = 0
        shard.apply([], [], page.counters.last_seq)  # the last operations may be purged deletes, which no feed has
        return page.counters.points

    def _apply(self, shard: Shard, entries: Sequence[FeedEntry]) -> None:
        if unknown := {entry.version for entry in entries if entry.record is not None} - shard.specs.keys():
            raise NotReady(f"the store has points of code versions {sorted(unknown)}, which are not known here yet")
        deletes = [entry.id for entry in entries if entry.record is None]
        self.note_damaged([entry.id for entry in entries if entry.is_damaged])
        by_version: dict[int, list[FeedEntry]] = {}
        for entry in entries:
            if entry.record is not None:
                by_version.setdefault(entry.version, []).append(entry)
        puts = [_puts_of(version, some, shard) for version, some in by_version.items()]
        shard.apply(puts, deletes, entries[-1].seq)

    def note_damaged(self, ids: Sequence[str]) -> None:
        """Points that the store has found damaged: nothing can be made of them."""
        self.damaged += len(ids)
        for point_id in ids[:MAX_LOGGED]:
            log.error("collection %s: point %r is damaged in the store and left out", self._name, point_id)

    def note_missing(self, missing: int) -> None:
        """missing: points that the store has and the view has not, of now and of earlier runs."""
        if missing > self.damaged:
            log.error(
                "shard %d of collection %s: %d points of the store are damaged and left out; see `bebr verify`",
                self._number,
                self._name,
                missing,
            )
            self.damaged = missing


def _puts_of(version: int, entries: Sequence[FeedEntry], shard: Shard) -> tuple[Puts, Values]:
    """Entries of one code version, with the values of the shard's fields."""
    records = np.frombuffer(b"".join(e.record or b"" for e in entries), np.uint8).reshape(len(entries), -1)
    metadata = [json.loads(entry.metadata or "{}") for entry in entries] if shard.fields else [{}] * len(entries)
    return Puts([e.id for e in entries], version, records, []), values_of(metadata, shard.fields)
