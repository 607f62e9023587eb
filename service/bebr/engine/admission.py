"""Admission: the one place that decides whether work may start.

Work of one kind is a lane. A lane knows how much work is under way, by collection, and how fast it has gone of late; so
it knows how long a request would wait. One that could not begin within half of its caller's patience is refused on
arrival, because its caller would be gone, and the work would be in vain. What waits is asked again when its turn comes:
it is dropped once its caller has left, or has waited as long as it would.

Queues take turns by collection, so a collection waits for its own work, and for as much of each other one.

Requests of the kinds that come in floods have a lane as a whole, before they start, beside those of the work they do.
"""

import asyncio
import math
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial

from bebr.coalescer import Drop
from bebr.config import Limits
from bebr.errors import Abandoned, BebrError, DeadlineExceeded, Overloaded

WAIT_SHARE = 0.5
"""Share of a caller's patience that it may wait until its work begins: the rest is for the work, and for estimates that
are wrong."""
REQUEST_WAIT_SHARE = 0.25
"""The same for whole requests: less, so that few are refused once much of them is done."""
WINDOW_SECONDS = 0.05
"""Busy time after which a lane corrects its rate."""
CORRECTION = 4.0
"""How far one window may move the rate: one that was measured while the machine slept says nothing."""
TURN_SECONDS = 0.003
"""Time that searches may take on the event loop before it looks at its sockets again."""
ALWAYS = 16
"""Requests of a collection that are taken whatever the estimate says: a rate measured by few requests is that of one
after the other, and many together go faster."""
SERVING_SECONDS = 0.25
"""How long after somebody was served jobs still leave room for the next."""
ALWAYS_REQUESTS = 64
"""The same for whole requests."""


def _stays() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Caller:
    """Who waits for the work under way."""

    deadline: float | None = None
    """Monotonic seconds by which it wants the answer; None: it did not say."""
    has_left: Callable[[], bool] = _stays
    """Whether nobody waits any more."""


NOBODY = Caller()
caller: ContextVar[Caller] = ContextVar("caller", default=NOBODY)
"""Set by whatever takes requests in. Work without one is a job's, or somebody's who said nothing."""


@dataclass(slots=True)
class _Work:
    """What one collection has in a lane."""

    requests: int = 0
    units: float = 0.0


class Lane:
    """Work of one kind: what is under way, and how fast it goes. Units are whatever its time is proportional to."""

    def __init__(
        self,
        name: str,
        what: str,
        seconds_per_unit: float,
        patience_seconds: float,
        always: int = ALWAYS,
        wait_share: float = WAIT_SHARE,
    ) -> None:
        """what: for messages. seconds_per_unit: the first guess. patience_seconds: of callers who did not say."""
        self.name = name
        self._what = what
        self.seconds_per_unit = seconds_per_unit
        self._patience_seconds = patience_seconds
        self._always = always
        self._wait_share = wait_share
        self._works: dict[str, _Work] = {}
        """By collection."""
        self._units = 0.0
        self._since = 0.0
        self._busy_seconds = 0.0
        self._done_units = 0.0
        self.refused = 0
        """Requests that were refused on arrival."""
        self.dropped = 0
        """Requests that were dropped when their turn came."""

    @property
    def backlog_seconds(self) -> float:
        """How long everything that is under way takes."""
        return self._units * self.seconds_per_unit

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self._works)

    @property
    def requests(self) -> int:
        """Requests under way."""
        return sum(work.requests for work in self._works.values())

    @property
    def idle_seconds(self) -> float:
        """For how long nothing has been under way."""
        return 0.0 if self._works else time.monotonic() - self._since

    def wait_seconds(self, key: str) -> float:
        """How long work of a collection would wait: for its own before it, and as much of each other one."""
        work = self._works.get(key)
        if work is None or work.requests < self._always:
            return 0.0
        return min(self._units, work.units * len(self._works)) * self.seconds_per_unit

    def check(self, key: str) -> None:
        """Raise Overloaded when work of a collection could not begin in time; DeadlineExceeded when that is past."""
        deadline = caller.get().deadline
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            self.dropped += 1
            raise _late()
        if (wait := self.wait_seconds(key)) > self.allowed_seconds(left):
            self.refused += 1
            raise self.overloaded(wait)

    def allowed_seconds(self, timeout_seconds: float | None) -> float:
        """How long a request may wait whose caller waits for so long; None: it did not say."""
        return self._wait_share * (self._patience_seconds if timeout_seconds is None else timeout_seconds)

    def overloaded(self, wait_seconds: float) -> Overloaded:
        """The refusal of a request that would wait so long."""
        return Overloaded(
            f"{self._what} wait for about {wait_seconds:.1f} s; try again later, or send fewer at a time",
            waiting=self.name,
            retry_after_seconds=max(1, math.ceil(wait_seconds)),
        )

    def enter(self, key: str, units: float) -> None:
        """A request begins to wait or to work. `leave` must follow."""
        if not self._works:
            self._since = time.monotonic()
        work = self._works.get(key)
        if work is None:
            work = self._works[key] = _Work()
        work.requests += 1
        work.units += units
        self._units += units

    def advance(self, key: str, units: float) -> None:
        """Some of the work of a request is done."""
        self._works[key].units -= units
        self._units -= units
        self._done_units += units
        now = time.monotonic()
        self._busy_seconds += now - self._since
        self._since = now
        if self._busy_seconds >= WINDOW_SECONDS:
            self._correct()

    def leave(self, key: str, units: float, done: bool) -> None:
        """A request has ended. units: what was not counted as done before; done: whether that was done, too."""
        if done:
            self.advance(key, units)
        else:
            self._works[key].units -= units
            self._units -= units
        work = self._works[key]
        work.requests -= 1
        if not work.requests:
            del self._works[key]
            if not self._works:
                self._units = 0.0  # without what rounding left

    def _correct(self) -> None:
        if self._done_units > 0:
            found, now = self._busy_seconds / self._done_units, self.seconds_per_unit
            self.seconds_per_unit = (now + min(max(found, now / CORRECTION), now * CORRECTION)) / 2
            self._busy_seconds = self._done_units = 0.0

    def add(self, key: str, units: float) -> None:
        """A request under way has more work."""
        self._works[key].units += units
        self._units += units

    def drop(self, begun: bool = False) -> Drop:
        """What a queue asks when the turn of this caller's work comes. begun: some of it is done already."""
        who, arrived = caller.get(), time.monotonic()

        def why() -> BebrError | None:
            error = self._why(who, 0.0 if begun else time.monotonic() - arrived)
            self.dropped += error is not None
            return error

        return why

    def _why(self, who: Caller, waited: float) -> BebrError | None:
        if who.has_left():
            return Abandoned("the caller left before the answer was ready")
        if who.deadline is not None:
            return _late() if time.monotonic() > who.deadline else None
        return self.overloaded(waited) if waited > self._patience_seconds else None


class LoopTurn:
    """How long searches have run on the event loop in this turn of it. What comes once it is used up goes to threads,
    so that many small searches at once do not hold up everything else."""

    def __init__(self) -> None:
        self._used_seconds = 0.0

    @property
    def is_free(self) -> bool:
        return self._used_seconds < TURN_SECONDS

    def use(self, seconds: float) -> None:
        """A search has run for so long."""
        if not self._used_seconds:
            asyncio.get_running_loop().call_soon(self._end)
        self._used_seconds += seconds

    def _end(self) -> None:
        self._used_seconds = 0.0


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the time that the caller allowed is over, and nothing was done; allow more time")


@dataclass
class Admission:
    """The lanes of one engine. None waits for another; each has threads of its own."""

    limits: Limits
    searches: Lane = field(init=False)
    """Scans. A unit is one query of 1 MiB of codes."""
    query_texts: Lane = field(init=False)
    """Texts of searches. Units of this and the next three are tokens, about."""
    written_texts: Lane = field(init=False)
    """Texts of points that are written."""
    embeddings: Lane = field(init=False)
    """Texts whose embeddings were requested."""
    background: Lane = field(init=False)
    """Texts of jobs and evaluations. It never refuses: a job waits, and yields to all others."""
    writes: Lane = field(init=False)
    """Commits. A unit is one commit of few points."""

    search_requests: Lane = field(init=False)
    """Requests of searches, from the socket to the answer: with all that they cost beside scans and texts. The unit of
    this and the next two is one request."""
    write_requests: Lane = field(init=False)
    """Requests that write points."""
    embedding_requests: Lane = field(init=False)
    """Requests for embeddings."""

    turn: LoopTurn = field(init=False, default_factory=LoopTurn)

    def __post_init__(self) -> None:
        patience = self.limits.request_timeout_seconds
        self.searches = Lane("searches", "searches", 0.0005, patience)
        self.query_texts = Lane("query_texts", "texts of searches", 0.0002, patience)
        self.written_texts = Lane("written_texts", "texts of points", 0.0002, patience)
        self.embeddings = Lane("embeddings", "embeddings", 0.0002, patience, always=1)
        self.background = Lane("background", "jobs", 0.0002, math.inf)
        self.writes = Lane("writes", "writes", 0.002, patience)
        whole = partial(Lane, patience_seconds=patience, wait_share=REQUEST_WAIT_SHARE)
        self.search_requests = whole("search_requests", "searches", 0.001, always=ALWAYS_REQUESTS)
        self.write_requests = whole("write_requests", "writes", 0.002, always=ALWAYS_REQUESTS)
        self.embedding_requests = whole("embedding_requests", "embeddings", 0.02, always=1)

    def is_serving(self) -> bool:
        """Whether somebody waits for scans or texts, or did a moment ago."""
        served = (self.searches, self.query_texts, self.written_texts, self.embeddings)
        return any(lane.idle_seconds < SERVING_SECONDS for lane in served)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        inside = (self.searches, self.query_texts, self.written_texts, self.embeddings, self.background, self.writes)
        return (*inside, self.search_requests, self.write_requests, self.embedding_requests)
