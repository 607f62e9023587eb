"""Checks a sampled share of searches: each is answered once more, and once without shortcuts, and the answers compared.

A shortcut is whatever lets a search pass over points that a finer score might have made hits: today that only the best
candidates of a scan are scored by their rescore codes. Checks wait until no search is under way, run one at a time, and
take a small part of the time. Both answers are computed here, one after the other, so that what was written since the
search was answered counts in neither.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bebr.engine.admission import Lane
from bebr.engine.collections.collection import Collection
from bebr.engine.search.query import RoutedQuery
from bebr.errors import BebrError

log = logging.getLogger(__name__)
MAX_WAITING = 16
"""Searches that wait to be checked."""
POLL_SECONDS = 0.02
PATIENCE_SECONDS = 30.0
"""How long a check waits for a moment without searches."""
REST = 20
"""Times as long as a check took, nothing is checked after it."""


@dataclass(frozen=True, slots=True)
class Check:
    """A search to be checked."""

    collection: Collection
    query: RoutedQuery
    answer: Callable[[RoutedQuery, bool], Awaitable[list[str]]]
    """The ids of its hits, best first. The flag: without shortcuts."""


class CoverageChecks:
    """Chooses searches to check, and checks them in the background."""

    def __init__(self, lane: Lane, *, one_in: int, max_points: int) -> None:
        """lane: of searches, for which checks wait. one_in: of how many searches one is checked; 0: none is.

        max_points: larger collections are not checked.
        """
        self._lane = lane
        self._one_in = one_in
        self._max_points = max_points
        self._left = self._next()
        self._waiting: deque[Check] = deque()
        self._arrived = asyncio.Event()

    def is_next(self, searches: int) -> bool:
        """Count so many searches -> whether one of them is to be checked. Every search comes here."""
        self._left -= searches
        if self._left > 0 or not self._one_in:
            return False
        self._left = self._next()
        return True

    def add(self, check: Check) -> None:
        """Check a search when there is time."""
        if check.query.query.request.group_by is not None:
            return
        points = sum(check.collection.shards.points().values())
        if points > self._max_points or len(self._waiting) >= MAX_WAITING:
            check.collection.coverage.skip()
            return
        self._waiting.append(check)
        self._arrived.set()

    async def run_for_ever(self) -> None:
        """Check what comes. Runs until it is cancelled."""
        while True:
            await self._arrived.wait()
            while self._waiting:
                check = self._waiting.popleft()
                idle, started = await self._is_idle(), time.monotonic()
                if idle and not check.collection.closed:
                    await self._run(check)
                else:
                    check.collection.coverage.skip()
                await asyncio.sleep(min(PATIENCE_SECONDS, REST * (time.monotonic() - started)))
            self._arrived.clear()

    async def _run(self, check: Check) -> None:
        coverage, shards = check.collection.coverage, check.collection.shards
        try:
            before = [shard.seq for shard in shards.stats()]
            found = set(await check.answer(check.query, False))
            best = await check.answer(check.query, True)
            if [shard.seq for shard in shards.stats()] != before:
                found |= set(await check.answer(check.query, False))  # what came meanwhile is no miss
        except (BebrError, OSError):
            coverage.skip()
        except Exception:
            log.exception("checking a search of collection %s failed", check.collection.name)
            coverage.skip()
        else:
            if best:
                coverage.add(len(found & set(best)), len(best))

    async def _is_idle(self) -> bool:
        """Wait until no search is under way -> whether there is such a moment in time."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self._lane.is_busy:
            if time.monotonic() > until:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    def _next(self) -> int:
        """In how many searches the next one is to be checked: at random, so that no rhythm of callers matters."""
        return random.randint(1, max(1, 2 * self._one_in - 1))
