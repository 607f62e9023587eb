"""Holding: a leaf takes the shards that are its own, and lets others go.

Which those are follows from the leaves that there are (`shards/placement.py`). It takes a shard from its files and
from the store, and says that it is ready. It lets one go when all that are to hold it are ready. Nobody has to agree on
anything: two leaves with the same shard are harmless.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from bebr.engine.collections.collection import Collection
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.leaves.announcement import Announcement
from bebr.engine.leaves.topology import LEASE_SECONDS, LOOK_SECONDS, StoreTopology
from bebr.errors import BebrError, Unavailable
from bebr.shards import HeldShards, Misfits
from bebr.shards.placement import WHOLE, Place, holders
from bebr.shards.topology import Holding as ShardHolding
from bebr.shards.topology import Leaf
from bebr.store import MetadataStore
from bebr.telemetry import event

log = logging.getLogger(__name__)
SIZE_SECONDS = 30.0
"""How long the size of a collection is taken to be what it was."""
TAKEN_AT_ONCE = 4
"""Shards that are taken at the same time."""
BEATS = 2
"""What a leaf says so many times later was said by one that knows of what was said before."""
EVERY_SEQ = 2**53
"""What a shard that was let go has, as far as the deletes that others need are concerned."""
Task = asyncio.Task[None]


@dataclass(frozen=True, slots=True)
class LeafOptions:
    """What a leaf is among the others."""

    zone: str
    capacity: float
    replicas: int
    """Leaves that hold each shard."""
    whole_points: int
    """Collections with fewer points lie whole on their leaves."""
    wire: tuple[int, int]
    """Lowest and highest version of the wire that it speaks."""
    drain_seconds: float
    """How long it serves on at most, once it is to stop."""


class Holding:
    """What one leaf holds. `address` is set before it runs."""

    def __init__(self, registry: CollectionRegistry, store: MetadataStore, options: LeafOptions) -> None:
        self._registry, self._store, self._options = registry, store, options
        self.name = uuid4().hex[:16]
        self.address = ""
        """Where gateways reach this leaf."""
        self.topology = StoreTopology(store)
        self._beat = 0
        self._leaving = False
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(TAKEN_AT_ONCE)
        self._tasks: dict[tuple[str, int], Task] = {}
        """By uid and shard: those that are taken or let go."""
        self._columns: dict[str, Task] = {}
        """By uid: makes columns that rows lack."""
        self._sizes: dict[str, tuple[float, int]] = {}
        """By uid: when it was counted, and the points."""
        self._sizing: Task | None = None
        self._plans: dict[str, tuple[Any, list[list[str]]]] = {}
        """By uid: for which leaves it was made, and the addresses of those that are to hold each shard."""
        self._said_once = False
        self._heard: dict[str, int] = {}
        """By name: the last beat of each other leaf when this one began to leave."""
        self._replaced = asyncio.Event()
        """This leaf is leaving, and others have all that is ready here."""

    def find(self, uid: str) -> HeldShards | None:
        """The shards of the collection, where it is known here."""
        return next((shards for collection, shards in self._open() if collection.document.uid == uid), None)

    @property
    def problem(self) -> str | None:
        """What keeps the leaf from being ready: shards that are its own and not here yet."""
        if not self._said_once:
            return "the leaf has not said yet that it is here"
        unplanned = missing = 0
        for collection, shards in self._open():
            plan = self._plan(collection)
            unplanned += plan is None
            missing += sum(self.address in one and n not in shards.ready for n, one in enumerate(plan or ()))
        if unplanned:
            return f"{unplanned} collections are to be counted first"
        return f"{missing} shards are on their way" if missing else None

    def wake(self) -> None:
        """Something changed: look at once."""
        self._wake.set()

    async def run_for_ever(self) -> None:
        """Say what is here, every second; take shards and let them go. Runs until it is cancelled."""
        try:
            while True:
                try:
                    await self._say()
                    self._step()
                except Unavailable as error:
                    log.debug("the leaf could not say that it is here: %s", error.detail)
                except Exception:
                    log.exception("the leaf could not see to its shards; trying again")
                await self._pause()
        finally:
            await self._stop()

    async def drain(self) -> None:
        """Serve on until others have the shards, or for as long as that may take."""
        self._leaving = True
        self._heard = {one.leaf.name: one.beat for one in self.topology.announcements()}
        self.wake()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._options.drain_seconds):
                await self._replaced.wait()

    # -- what it says --------------------------------------------------------------------------------------------------

    async def _say(self) -> None:
        self._beat += 1
        said = Announcement(self._leaf(), self._beat, self._leaving)
        texts = await self._store.announce(self.name, said.to_text(), LEASE_SECONDS)
        self.topology.take(texts)
        if not self._said_once:  # what was at this address before has ended
            for one in self.topology.announcements():
                if one.leaf.address == self.address and one.leaf.name != self.name:
                    await self._store.announce(one.leaf.name, "", LEASE_SECONDS)
        self._said_once = True

    def _leaf(self) -> Leaf:
        options = self._options
        holds = {
            collection.document.uid: {n: ShardHolding(shards.seq(n), n in shards.ready) for n in sorted(shards.held)}
            for collection, shards in self._open()
        }
        return Leaf(self.name, self.address, options.zone, options.capacity, options.wire, holds)

    async def _pause(self) -> None:
        """A second, or until something changed, which is at most ten times a second."""
        await asyncio.sleep(LOOK_SECONDS / 10)
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS - LOOK_SECONDS / 10):
                await self._wake.wait()
        self._wake.clear()

    # -- what it takes and lets go -------------------------------------------------------------------------------------

    def _step(self) -> None:
        if self._sizing is None:
            self._sizing = asyncio.create_task(self._count_all())
        for collection, shards in self._open():
            if (plan := self._plan(collection)) is None:
                continue
            for number, addresses in enumerate(plan):
                key = (collection.document.uid, number)
                if key in self._tasks:
                    continue
                if self.address in addresses and number not in shards.ready:
                    self._begin(key, self._take(collection, shards, number))
                elif self._is_done(addresses, shards, *key):
                    self._begin(key, self._let_go(collection, shards, number))
            self._make_columns(collection, shards)
        if self._leaving and self._is_replaced():
            self._replaced.set()

    def _is_done(self, addresses: list[str], shards: HeldShards, uid: str, number: int) -> bool:
        """Whether a shard is held that is not this leaf's own any more, and those whose own it is have it."""
        is_own = self.address in addresses or self._leaving
        return not is_own and number in shards.held and self._have(addresses, uid, number)

    def _open(self) -> Iterator[tuple[Collection, HeldShards]]:
        for collection in list(self._registry.collections.values()):
            if collection.ready and not collection.closed and isinstance(collection.shards, HeldShards):
                yield collection, collection.shards

    def _places(self) -> tuple[Place, ...]:
        """The leaves that are to hold shards, each once."""
        found = {
            one.leaf.address: Place(one.leaf.address, one.leaf.zone, one.leaf.capacity)
            for one in self.topology.announcements()
            if not one.leaving
        }
        if not self._leaving:
            found[self.address] = Place(self.address, self._options.zone, self._options.capacity)
        return tuple(found[address] for address in sorted(found))

    def _plan(self, collection: Collection) -> list[list[str]] | None:
        """Addresses of the leaves that are to hold each shard; None: the size of the collection is not known yet."""
        uid, count = collection.document.uid, collection.document.shards
        is_whole = True
        if count > 1 and self._options.whole_points:
            if uid not in self._sizes:
                return None
            is_whole = self._sizes[uid][1] < self._options.whole_points
        elif count > 1:
            is_whole = False
        places = self._places()
        made_for, plan = self._plans.get(uid, (None, []))
        if made_for != (places, is_whole):
            replicas = self._options.replicas
            if is_whole:
                plan = [holders(uid, WHOLE, places, replicas)] * count
            else:
                plan = [holders(uid, number, places, replicas) for number in range(count)]
            self._plans[uid] = ((places, is_whole), plan)
        return plan

    def _have(self, addresses: list[str], uid: str, shard: int) -> bool:
        """Whether the leaves at all of these addresses have the shard ready; there must be one at least."""
        ready = {
            one.leaf.address
            for one in self.topology.announcements()
            if (held := one.leaf.holds.get(uid, {}).get(shard)) is not None and held.ready
        }
        return bool(addresses) and ready.issuperset(addresses)

    def _is_replaced(self) -> bool:
        """Whether others have all that is ready here; or there is nobody else."""
        if not self._places():
            return True
        others = [one for one in self.topology.announcements() if one.leaf.name != self.name and not one.leaving]
        if any(one.beat < self._heard.get(one.leaf.name, one.beat - BEATS) + BEATS for one in others):
            return False  # what was said before may be of shards that were let go since
        for collection, shards in self._open():
            plan = self._plan(collection)
            if plan is None or not all(self._have(plan[n], collection.document.uid, n) for n in shards.ready):
                return False
        return True

    def _begin(self, key: tuple[str, int], work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            try:
                async with self._slots:
                    await work
            except asyncio.CancelledError:
                work.close()
                raise
            except BebrError as error:
                event(log, "a shard waits", logging.WARNING, collection=key[0], shard=key[1], reason=error.detail)
                await asyncio.sleep(LOOK_SECONDS)
            except Exception:
                log.exception("shard %d of collection %s could not be taken or let go; trying again", key[1], key[0])
                await asyncio.sleep(LOOK_SECONDS)
            finally:
                self._tasks.pop(key, None)
                self.wake()

        self._tasks[key] = asyncio.create_task(run())

    async def _take(self, collection: Collection, shards: HeldShards, number: int) -> None:
        if not collection.closed:
            await shards.hold(number, collection.document.fields_change)

    async def _let_go(self, collection: Collection, shards: HeldShards, number: int) -> None:
        plan = self._plan(collection)  # it may have waited, and a leaf may be leaving since
        if not collection.closed and plan and self._is_done(plan[number], shards, collection.document.uid, number):
            await shards.release(number)
            await self._store.purge_tombstones(collection.document.uid, number, EVERY_SEQ)

    async def _count_all(self) -> None:
        """Count the points of collections that were not counted for a while."""
        now = asyncio.get_running_loop().time()
        try:
            for collection, _ in self._open():
                uid, count = collection.document.uid, collection.document.shards
                counted = self._sizes.get(uid)
                if count == 1 or not self._options.whole_points or (counted and now - counted[0] < SIZE_SECONDS):
                    continue
                found = await asyncio.gather(*(self._store.counters(uid, number) for number in range(count)))
                self._sizes[uid] = (now, sum(one.points for one in found))
                self.wake()
        except BebrError as error:
            log.debug("collections could not be counted: %s", error.detail)
        finally:
            self._sizing = None

    # -- columns -------------------------------------------------------------------------------------------------------

    def _make_columns(self, collection: Collection, shards: HeldShards) -> None:
        """Of fields that became filterable: each leaf makes its own."""
        uid = collection.document.uid
        if uid not in self._columns and shards.columns().outdated:
            self._columns[uid] = asyncio.create_task(self._make_all_columns(uid, shards))

    async def _make_all_columns(self, uid: str, shards: HeldShards) -> None:
        try:
            while await shards.make_columns(_unheard, _at_once):
                pass
        except (BebrError, OSError) as error:
            event(log, "columns wait", logging.WARNING, collection=uid, reason=str(error))
            await asyncio.sleep(LOOK_SECONDS)
        except Exception:
            log.exception("columns of collection %s could not be made; trying again", uid)
            await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._columns.pop(uid, None)

    async def _stop(self) -> None:
        tasks = [*self._tasks.values(), *self._columns.values(), *([self._sizing] if self._sizing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(BebrError):
            await self._store.announce(self.name, "", LEASE_SECONDS)


async def _unheard(piece: str, misfits: Mapping[str, Misfits]) -> None:
    """Misfits are counted by the gateway that changed the fields."""


async def _at_once() -> None:
    await asyncio.sleep(0)
