"""Lists of all collections are made, and made again, in the background: of one collection at a time.

Whatever brings a version to enough points makes them due: writes, and also fits, backfills, restores, and operations of
the store that other processes wrote. So collections are looked at over and over, and not only after writes.
"""

import asyncio
import logging
import time

from bebr.engine import Engine
from bebr.engine.alone import Alone
from bebr.engine.collections.collection import Collection
from bebr.errors import BebrError
from bebr.shards import Stopped

log = logging.getLogger(__name__)
PAUSE_SECONDS = 1.0
"""A collection is looked at this long after a change, once for all changes until then; and all of them this often."""
RETRY_SECONDS = 60.0
"""What failed is tried again after this, or after the next write."""


class ListUpkeep:
    """Looks at collections after they were written to, and makes the lists that are due."""

    def __init__(self, engine: Engine) -> None:
        self._registry = engine.registry
        self._lists = engine.lists
        self._alone = Alone(engine.registry, engine.store)
        self._one_at_a_time = asyncio.Semaphore(1)
        self._running: dict[str, asyncio.Task[None]] = {}
        """By uid of the collection."""
        self._changed: set[str] = set()
        """Uids of collections that changed while they were looked at."""
        self._failed: dict[str, float] = {}
        """By uid of a collection whose upkeep failed since it last succeeded: when. The log hears of it once."""
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Go on with what is due."""
        self._looking = asyncio.create_task(self._look_for_ever())

    async def stop(self) -> None:
        """Stop; what was not finished begins anew at the next start."""
        if (looking := self._looking) is not None:
            self._looking = None
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        await self._cancel(list(self._running))

    def changed(self, collection: Collection) -> None:
        """Called after every write: it must be cheap."""
        uid = collection.document.uid
        if self._looking is None or collection.closed or not collection.ready:
            return
        if uid in self._running:
            self._changed.add(uid)
        else:
            self._running[uid] = asyncio.create_task(self._keep(collection))

    async def closing(self, collection: Collection) -> None:
        """End what is running for a collection that is about to be closed."""
        await self._cancel([collection.document.uid])

    async def _cancel(self, uids: list[str]) -> None:
        tasks = [self._running[uid] for uid in uids if uid in self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_for_ever(self) -> None:
        while True:
            try:
                self._look_at_all()
            except Exception:
                log.exception("it is not known which lists are due; trying again")
            await asyncio.sleep(PAUSE_SECONDS)

    def _look_at_all(self) -> None:
        """Nothing of a collection is held between two rounds: it would keep the files of a dropped one."""
        for uid in self._failed.keys() - {one.document.uid for one in self._registry.collections.values()}:
            del self._failed[uid]
        for collection in list(self._registry.collections.values()):
            uid = collection.document.uid
            if uid in self._running or collection.closed or not collection.ready:
                continue
            if time.monotonic() - self._failed.get(uid, -RETRY_SECONDS) < RETRY_SECONDS:
                continue
            if self._lists.due(collection) is not None or self._lists.has_older(collection):
                self.changed(collection)

    async def _keep(self, collection: Collection) -> None:
        uid = collection.document.uid
        try:
            while True:
                self._changed.discard(uid)
                await asyncio.sleep(PAUSE_SECONDS)
                await self._look(collection)
                if uid not in self._changed and (uid in self._failed or not self._lists.has_older(collection)):
                    return
        finally:
            del self._running[uid]

    async def _look(self, collection: Collection) -> None:
        uid, is_wanted = collection.document.uid, True

        def wanted() -> bool:
            return is_wanted and not collection.closed

        def lost() -> None:
            nonlocal is_wanted
            is_wanted = False

        try:
            if self._lists.due(collection) is not None or self._lists.has_older(collection):
                async with self._alone.doing(f"lists-{uid}", _leave_it, lost):
                    while (version := self._lists.due(collection)) is not None:
                        async with self._one_at_a_time:
                            if not await self._lists.make(collection, version, wanted):
                                break
                    await self._lists.forget_unused(collection)
            self._failed.pop(uid, None)
        except Stopped:
            pass
        except (BebrError, OSError) as error:
            if uid not in self._failed:
                log.warning("lists of collection %s: %s; trying again", collection.name, error)
            self._failed[uid] = time.monotonic()
        except Exception:
            if uid not in self._failed:
                log.exception("lists of collection %s cannot be made; trying again", collection.name)
            self._failed[uid] = time.monotonic()
        finally:
            is_wanted = False


async def _leave_it(seconds: float) -> None:
    """Another service makes them now. If it does not come to an end, the next look finds them due again."""
    raise Stopped
