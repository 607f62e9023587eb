"""Whether the views have what was acknowledged elsewhere, and how they get it: by catching up at once, when it is asked
for, and every now and then without that.

A primary's views have all that it has acknowledged itself. A follower's are compared with the numbers that the primary
shares (`shared_seqs.py`); without them it cannot know, and asks the store each time.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from bebr.core.types import Role
from bebr.errors import BebrError, NotReady
from bebr.shards.follower import Follower
from bebr.shards.shared_seqs import MAX_SEQ, SEQ_BITS, SharedSeqs, numbers
from bebr.shards.writer import Writer
from bebr.telemetry import event

log = logging.getLogger(__name__)
FOLLOW_SECONDS = 1.0
"""Followers look for new files, and for operations that nobody has asked for yet."""
READ_WAIT_SECONDS = 10.0
"""How long a read waits for operations that the store does not have yet, where nothing else is said."""
PAUSE_SECONDS = 0.01
NO_SEQS: Mapping[int, int] = MappingProxyType({})


class Freshness:
    """Of the shards of one collection. shared: what the primary has acknowledged; None in a primary."""

    def __init__(
        self,
        followers: Sequence[Follower],
        writer: Writer,
        role: Role,
        shared: SharedSeqs | None,
        name: str,
        wait_seconds: float,
        held: Collection[int],
    ) -> None:
        """held: numbers of the shards that are here; it may change."""
        self._followers, self._writer, self._name, self._held = followers, writer, name, held
        self._follows = role is Role.FOLLOWER
        self._shared = shared
        self._wait_seconds = wait_seconds
        self._had: bytes | None = b""
        """Numbers that the views have reached."""
        self._builds = [0] * len(followers)
        """The build of the primary's shard that each view is equal to."""
        self._catching: dict[int, asyncio.Task[None]] = {}
        self._following: asyncio.Task[None] | None = None
        self._closed = False

    def is_behind(self) -> bool:
        """Whether the primary has acknowledged what the views may lack. Called before every read."""
        if not self._follows or self._shared is None or (raw := self._shared.read()) == self._had:
            return False
        return raw is None or bool(self._lacking({}))

    async def reach(self, seqs: Mapping[int, int] = NO_SEQS) -> None:
        """Return once readers see what the primary has acknowledged, and the operations up to these seqs, by shard.

        Raises NotReady where the store has no such operations for too long, and what the store raises.
        """
        if self._follows and self._shared is not None and self._shared.read() is None:
            await self.reach_store()
        deadline = asyncio.get_running_loop().time() + self._wait_seconds
        while lacking := self._lacking(seqs):
            await asyncio.gather(*(self._caught_up(number) for number in lacking))
            if not (lacking := self._lacking(seqs)):
                return
            if asyncio.get_running_loop().time() > deadline:
                raise self._late(min(lacking), seqs)
            await asyncio.sleep(PAUSE_SECONDS)

    async def reach_store(self) -> None:
        """Return once readers see everything that the store has. Raises what the store raises."""
        await asyncio.gather(*(self._catch_up(number) for number in self._held))

    def begin(self) -> None:
        """Go on following, without being asked."""
        if self._follows and self._following is None:
            self._following = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Whoever waits is told."""
        self._closed = True
        tasks = [task for task in (self._following, *self._catching.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _lacking(self, seqs: Mapping[int, int]) -> set[int]:
        """The shards whose views lack something that is known of."""
        lacking = {number for number, seq in seqs.items() if self._followers[number].shard.seq < seq}
        raw = self._shared.read() if self._follows and self._shared is not None else None
        if raw is not None and raw != self._had:
            shared = enumerate(numbers(raw))
            missing = {number for number, told in shared if not self._has(number, told)}
            if not missing:
                self._had = raw
            lacking |= missing
        return lacking

    def _has(self, number: int, told: int) -> bool:
        return told >> SEQ_BITS == self._builds[number] and told & MAX_SEQ <= self._followers[number].shard.seq

    async def _caught_up(self, number: int) -> None:
        """Join the catch-up that is under way, or begin one: whoever it is too early for comes again."""
        if self._closed:
            raise self._closing()
        task = self._catching.get(number)
        if task is None:
            task = self._catching[number] = asyncio.create_task(self._catch_up(number))
            task.add_done_callback(lambda done: self._end(number, done))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if not self._closed or (waiting is not None and waiting.cancelling()):
                raise
            raise self._closing() from None

    def _end(self, number: int, task: "asyncio.Task[None]") -> None:
        self._catching.pop(number, None)
        if not task.cancelled():
            task.exception()  # whoever waited has it; there may be nobody left

    async def _catch_up(self, number: int) -> None:
        raw = None if self._shared is None else self._shared.read()
        await self._writer.catch_up(number)
        if raw is not None and self._follows:
            self._builds[number] = numbers(raw)[number] >> SEQ_BITS

    async def _follow(self) -> None:
        reason = ""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                outrun = {n for n, one in enumerate(self._followers) if one.shard.is_outrun}
                told = self._shared is not None and self._shared.read() is not None
                lacking = outrun | self._lacking({}) if told else range(len(self._followers))
                for number in sorted(lacking):
                    await self._caught_up(number)
                reason = ""
            except BebrError as error:
                if str(error) != reason:
                    reason = str(error)
                    event(log, "a follower waits", logging.WARNING, collection=self._name, reason=reason)
            except Exception:
                log.exception("collection %s cannot follow its primary for a while", self._name)

    def _closing(self) -> NotReady:
        return NotReady(f"collection '{self._name}' is being closed; try again", collection=self._name)

    def _late(self, number: int, seqs: Mapping[int, int]) -> NotReady:
        seq = self._followers[number].shard.seq
        wanted = f", and operation {seqs[number]} is asked for" if number in seqs else ""
        return NotReady(
            f"collection '{self._name}': shard {number} has the operations up to {seq} so far{wanted}; try again",
            collection=self._name,
            shard=number,
        )
