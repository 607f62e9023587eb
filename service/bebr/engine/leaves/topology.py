"""StoreTopology: the leaves that there are, by what they say in the store. It looks every second.

While the store is away, those that were there last are taken to be there still; and for as long after it as a leaf may
need to say something again.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from bebr.engine.leaves.announcement import Announcement
from bebr.errors import Unavailable
from bebr.shards.topology import Leaf
from bebr.store import MetadataStore

log = logging.getLogger(__name__)
LOOK_SECONDS = 1.0
LEASE_SECONDS = 3.0
"""What a leaf says is over then, unless it says something again."""


class StoreTopology:
    """Of one process; a Topology."""

    def __init__(self, store: MetadataStore) -> None:
        self._store = store
        self.changed = asyncio.Event()
        self._said: dict[str, Announcement] = {}
        """By name of the leaf."""
        self._gone: dict[str, int] = {}
        """By name: the last that was heard of a leaf when it was found to be gone."""
        self._leaves: tuple[Leaf, ...] = ()
        self._seen_until = float("-inf")
        """When the store was read last."""
        self._steady_since = float("inf")
        """Since when it was read without a pause in which leaves could not renew what they said."""
        self._wake = asyncio.Event()

    def leaves(self) -> Sequence[Leaf]:
        return self._leaves

    def announcements(self) -> list[Announcement]:
        """What the leaves say, those that are about to stop included."""
        return list(self._said.values())

    def gone(self, leaf: Leaf) -> None:
        if (said := self._said.get(leaf.name)) is not None:
            self._gone[leaf.name] = said.beat
            self._publish()
            self._wake.set()

    def lacking(self, uid: str, shards: int) -> list[int]:
        """Numbers of the shards of a collection that no leaf has ready."""
        held = {shard for leaf in self._leaves for shard, one in leaf.holds.get(uid, {}).items() if one.ready}
        return [shard for shard in range(shards) if shard not in held]

    async def run_for_ever(self) -> None:
        """Look every second, and when a leaf was found to be gone. Runs until it is cancelled."""
        while True:
            try:
                await self.look()
            except Unavailable as error:
                log.debug("which leaves there are is not known: %s", error.detail)
            except Exception:
                log.exception("which leaves there are could not be read; trying again")
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            await asyncio.sleep(LOOK_SECONDS / 10)  # many calls may find the same leaf gone

    async def look(self) -> None:
        """Raises what the store raises."""
        self.take(await self._store.announced())

    def take(self, texts: Mapping[str, str]) -> None:
        """What the store says now, by name of the leaf."""
        now = time.monotonic()
        if now - self._seen_until > LEASE_SECONDS - LOOK_SECONDS:
            self._steady_since = now
        self._seen_until = now
        found = {name: said for name, text in texts.items() if (said := Announcement.of(name, text)) is not None}
        if now - self._steady_since < LEASE_SECONDS:
            found = self._said | found
        if found != self._said:
            self._said = found
            self._publish()

    def _publish(self) -> None:
        self._gone = {
            name: beat for name, beat in self._gone.items() if name in self._said and self._said[name].beat <= beat
        }
        leaves = tuple(said.leaf for name, said in self._said.items() if name not in self._gone)
        if leaves != self._leaves:
            self._leaves = leaves
            self.changed.set()
