"""Checks a sampled share of searches: each is answered once more, and once without shortcuts, and the answers compared.

A shortcut is whatever lets a search pass over points that a finer score might have made hits: that only the best
candidates of a scan are scored by their rescore codes. Checks run one at a time, in slices of a few milliseconds, each
of which begins only when no search is under way, on a thread of low priority; collections take turns. What all of them
take together is a share of one core: after a check nothing is checked until the time that it took is made up for.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from bebr.engine.admission import Lane
from bebr.engine.collections.collection import Collection
from bebr.engine.search.comparison import Comparison, Steps, compare, shortcuts_of
from bebr.engine.search.query import RoutedQuery
from bebr.errors import BebrError, DamagedSegment

log = logging.getLogger(__name__)
MAX_WAITING = 16
"""Searches of one collection that wait to be checked."""
POLL_SECONDS = 0.02
PATIENCE_SECONDS = 30.0
"""How long a slice waits for a moment without searches."""
MAX_SECONDS = 600.0
"""How long a check may last: it keeps in memory what it reads."""
BUDGET_SECONDS = 3600.0
"""One check may cost what all may in this time."""
RESTS = 3
"""Times as long as a slice took, the next one of a check waits."""


@dataclass(frozen=True, slots=True)
class Check:
    """A search to be checked."""

    collection: Collection
    query: RoutedQuery


class CoverageChecks:
    """Chooses searches to check, and checks them in the background."""

    def __init__(self, lane: Lane, threads: Executor, *, one_in: int, cpu_percent: int) -> None:
        """lane: of searches, for which checks wait. one_in: of how many searches one is checked; 0: none is.

        cpu_percent: of one core, which checks may take.
        """
        self._lane = lane
        self._threads = threads
        self._one_in = one_in
        self._share = cpu_percent / 100
        self._left = self._next()
        self._waiting: dict[str, deque[Check]] = {}
        """By uid of the collection; the first is next."""
        self._arrived = asyncio.Event()

    def due(self, searches: int) -> int:
        """Count so many searches -> how many of them are to be checked. Every search comes here."""
        self._left -= searches
        if self._left > 0 or not self._one_in:
            return 0
        due = 0
        while self._left <= 0:
            due += 1
            self._left += self._next()
        return min(due, searches)

    def add(self, collection: Collection, routed: Sequence[RoutedQuery], count: int) -> None:
        """Check some of these searches when there is time: those among them that take shortcuts."""
        waiting = self._waiting.setdefault(collection.document.uid, deque())
        for one in random.sample(routed, count):
            if not shortcuts_of(one):
                continue
            if len(waiting) >= MAX_WAITING:
                collection.coverage.skip()
            else:
                waiting.append(Check(collection, one))
                self._arrived.set()
        if not waiting:
            del self._waiting[collection.document.uid]

    async def run_for_ever(self) -> None:
        """Check what comes. Runs until it is cancelled."""
        while True:
            await self._arrived.wait()
            while (check := self._take()) is not None:
                running = _Running(check, self._lane, self._threads, BUDGET_SECONDS * self._share)
                await running.run()
                await asyncio.sleep(running.cpu_seconds / self._share)
            self._arrived.clear()

    def _take(self) -> Check | None:
        """The next check; its collection is then the last one to have its turn."""
        if not self._waiting:
            return None
        uid = next(iter(self._waiting))
        waiting = self._waiting.pop(uid)
        check = waiting.popleft()
        if waiting:
            self._waiting[uid] = waiting
        return check

    def _next(self) -> int:
        """In how many searches the next one is to be checked: at random, so that no rhythm of callers matters."""
        return random.randint(1, max(1, 2 * self._one_in - 1))


class _Running:
    """One check, as it is made."""

    def __init__(self, check: Check, lane: Lane, threads: Executor, budget_seconds: float) -> None:
        self._check = check
        self._lane = lane
        self._threads = threads
        self._budget_seconds = budget_seconds
        self._until = time.monotonic() + MAX_SECONDS
        self.cpu_seconds = 0.0
        """What it took so far."""

    async def run(self) -> None:
        """Check, or count it as skipped."""
        collection = self._check.collection
        snapshot = collection.shards.snapshot()
        comparison = None
        # points of another version may have come since, and what was asked says nothing of them
        is_whole = snapshot.points.keys() <= self._check.query.of_version.keys()
        if is_whole and snapshot.rows * collection.coverage.seconds_per_row <= self._budget_seconds:
            try:
                comparison = await self._compared(compare(collection, self._check.query, snapshot))
            except DamagedSegment as damage:
                snapshot.found_damage(damage)
            except (BebrError, OSError):
                pass
            except Exception:
                log.exception("checking a search of collection %s failed", collection.name)
        if comparison is None:
            collection.coverage.skip()
        else:
            collection.coverage.add(comparison.whole, comparison.of)
            collection.coverage.note_cost(self.cpu_seconds, snapshot.rows)

    async def _compared(self, steps: Steps) -> Comparison | None:
        """None: it was given up."""
        loop = asyncio.get_running_loop()
        while await self._may_go_on():
            comparison, seconds = await loop.run_in_executor(self._threads, _step, steps)
            self.cpu_seconds += seconds
            if comparison is not None:
                return comparison
            await asyncio.sleep(RESTS * seconds)
        return None

    async def _may_go_on(self) -> bool:
        """Wait until no search is under way -> whether there was such a moment, and there is budget left."""
        until = min(self._until, time.monotonic() + PATIENCE_SECONDS)
        while self._lane.is_busy:
            if time.monotonic() > until:
                return False
            await asyncio.sleep(POLL_SECONDS)
        in_time = time.monotonic() <= self._until and self.cpu_seconds <= self._budget_seconds
        return in_time and not self._check.collection.closed


def _step(steps: Steps) -> tuple[Comparison | None, float]:
    """The result after the last step, and the processor time that this one took."""
    began = time.thread_time()
    try:
        next(steps)
    except StopIteration as stop:
        return stop.value, time.thread_time() - began
    return None, time.thread_time() - began
