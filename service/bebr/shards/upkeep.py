"""What runs beside the reads and writes of the shards of one collection: sealing and merging, sorting by lists, reading
all files for damage, and building anew what is damaged. Each of them runs once at a time, and none after the close.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from bebr.errors import DamagedSegment, NotReady, Unavailable
from bebr.index import segment_file
from bebr.index.lists.assigning import Stopped
from bebr.index.scan_view import ScanView
from bebr.index.segment import Segment, SegmentView
from bebr.index.shard import Shard
from bebr.shards.follower import Follower
from bebr.shards.memory import release_free_memory
from bebr.shards.writer import Writer
from bebr.telemetry import event

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
QUIET_SECONDS = 10.0
"""Segments with lists are joined when none was made for this long."""


class Upkeep:
    """The tasks of one collection's shards. name: that of the collection, for log lines."""

    def __init__(self, followers: Sequence[Follower], writer: Writer, threads: Executor, name: str) -> None:
        """threads: seal, merge and write checkpoints."""
        self._followers = followers
        self._writer = writer
        self._threads = threads
        self._name = name
        self._maintaining: dict[int, asyncio.Task[None]] = {}
        self._mending: dict[int, asyncio.Task[None]] = {}
        """Shards that are rebuilt because a file of theirs is damaged."""
        self._sorting: asyncio.Task[None] | None = None
        """Sorts segments by other lists, or joins some, one at a time."""
        self._joining: asyncio.TimerHandle | None = None
        """Begins to join segments."""
        self.sorts = False
        """Whether segments are sorted: once all shards have caught up."""
        self.closed = False

    @property
    def is_busy(self) -> bool:
        """Whether something runs that makes files."""
        return bool(self._maintaining or self._mending or self._sorting)

    async def begin(self) -> None:
        """What the start has left to do, once all shards have caught up."""
        for number in range(len(self._followers)):
            self.maintain(number)
        await asyncio.gather(*self._maintaining.values())
        await asyncio.to_thread(release_free_memory)
        self.sorts = True
        self.sort()

    async def leave(self, number: int) -> None:
        """Return when nothing runs for a shard that needs it; nobody may begin anything of it meanwhile."""
        tasks = [task for task in (self._maintaining.get(number), self._mending.get(number)) if task is not None]
        if mending := self._mending.get(number):
            mending.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Return when nothing runs any more."""
        self.closed = True
        if self._joining is not None:
            self._joining.cancel()
        await asyncio.gather(*self._maintaining.values(), *([self._sorting] if self._sorting else []))
        for mending in list(self._mending.values()):
            mending.cancel()

    # -- sealing and merging -------------------------------------------------------------------------------------------

    def maintain(self, number: int) -> None:
        """Start maintenance of a shard that needs it, unless it runs already or the shards are closed."""
        if self._followers[number].shard.needs_maintenance and number not in self._maintaining and not self.closed:
            self._maintaining[number] = asyncio.create_task(self._maintain(number))

    async def _maintain(self, number: int) -> None:
        loop, follower = asyncio.get_running_loop(), self._followers[number]
        try:
            if await loop.run_in_executor(self._threads, follower.shard.maintain):
                await loop.run_in_executor(self._threads, release_free_memory)
            await follower.purge()
        except DamagedSegment as damage:
            self.mend(damage)
            await self._pause()
        except Exception:
            # growing segments stay in memory and the store has everything: the next write tries again, but not at once
            log.exception("maintenance of collection %s, shard %d failed", self._name, number)
            await self._pause()
        finally:
            del self._maintaining[number]
        self.sort()

    # -- lists ---------------------------------------------------------------------------------------------------------

    def sort(self) -> None:
        """Begin to sort segments by the lists of today, where some are not; else to join some, after a while without
        new ones."""
        if self._sorting is not None or not self.sorts or self.closed:
            return
        if self._joining is not None:
            self._joining.cancel()
            self._joining = None
        if any(follower.shard.needs_sorting for follower in self._followers):
            self._sorting = asyncio.create_task(self._make_anew(lambda shard: shard.sort_one(lambda: not self.closed)))
        elif any(follower.shard.needs_joining for follower in self._followers):
            self._joining = asyncio.get_running_loop().call_later(QUIET_SECONDS, self._join)

    def _join(self) -> None:
        self._joining = None
        if self._sorting is None and not self._maintaining and not self.closed:  # else `sort` is called again
            self._sorting = asyncio.create_task(self._make_anew(self._join_some))

    def _join_some(self, shard: Shard) -> bool:
        return not self._maintaining and not self.closed and shard.join_some()

    async def _make_anew(self, make_one: Callable[[Shard], bool]) -> None:
        """Make segments anew, one at a time, until no shard has one more to make."""
        try:
            for follower in self._followers:
                while await asyncio.to_thread(make_one, follower.shard):
                    await asyncio.to_thread(release_free_memory)
        except Stopped:
            return
        except DamagedSegment as damage:
            self.mend(damage)
            return
        except Exception:
            log.exception(
                "segments of collection %s could not be sorted by lists, or joined; the next write tries again",
                self._name,
            )
            await self._pause()
            return
        finally:
            self._sorting = None
        self.sort()

    # -- damage --------------------------------------------------------------------------------------------------------

    async def scrub(self, bytes_per_second: int) -> None:
        """Read all segment files, no faster than that, and rebuild the shards whose files are damaged."""

        def pause(size_bytes: int) -> None:
            if self.closed:
                raise InterruptedError
            time.sleep(size_bytes / bytes_per_second)

        for follower in self._followers:
            for part in follower.view.parts:
                if isinstance(part, SegmentView) and not self.closed:
                    try:
                        await asyncio.to_thread(segment_file.verify, part.segment.path, pause=pause)
                    except InterruptedError:
                        return
                    except DamagedSegment as damage:
                        if part in follower.view.parts:  # else it was merged meanwhile, and its file deleted
                            self.mend(damage)

    def mend(self, damage: DamagedSegment) -> NotReady:
        """Build the shard anew that a damaged file belongs to; the error for whoever found out."""
        for number, follower in enumerate(self._followers):
            if str(follower.shard.folder) == damage.fields["folder"] and number not in self._mending:
                follower.distrust(damage)
                self._mending[number] = asyncio.create_task(self._mend(number))
        return NotReady(
            f"collection '{self._name}': {damage.detail}; it is made anew from the store, try again",
            collection=self._name,
        )

    async def reread(self, damage: DamagedSegment) -> None:
        """Return once the files of another process, which has replaced them, are read anew. Else raises NotReady."""
        for number, follower in enumerate(self._followers):
            if str(follower.shard.folder) == damage.fields["folder"] and follower.shard.is_outrun:
                return await self._writer.catch_up(number)
        raise self.mend(damage) from None

    async def _mend(self, number: int) -> None:
        try:
            while not self.closed:
                try:
                    await self._writer.catch_up(number)
                    event(log, "shard rebuilt after damage", collection=self._name, shard=number)
                    return
                except Unavailable as error:
                    event(log, "rebuild waits", logging.WARNING, collection=self._name, shard=number, reason=str(error))
                    await self._pause()
        except Exception:
            log.exception("shard %d of collection %s cannot be rebuilt", number, self._name)
        finally:
            del self._mending[number]

    async def _pause(self) -> None:
        await asyncio.sleep(0 if self.closed else RETRY_SECONDS)


def is_current(damage: DamagedSegment, view: ScanView, now: ScanView) -> bool:
    """Whether the damaged file of a view is still one of the shards as they are now."""
    segments = {id(segment) for segment in _segments(now)}
    return all(
        id(segment) in segments
        for segment in _segments(view)
        if segment.path.name == damage.fields["segment"] and str(segment.path.parent) == damage.fields["folder"]
    )


def _segments(view: ScanView) -> list[Segment]:
    return [part.segment for part in view.parts if isinstance(part, SegmentView)]
