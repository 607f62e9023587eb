"""Lease: one process at a time writes to a Redis prefix.

The lease is a key that expires unless it is renewed; it names its holder. A process that was away for longer than that
cannot know whether another one has taken over, so each holder has a higher *fencing token* than the one before. Shards
remember the highest token that they have seen, and refuse commits with a lower one.

A holder that has died is not waited for: one with a dead process id on this machine, or with this data folder, which
nobody else can have locked.
"""

import asyncio
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bebr.errors import StoreUnavailable
from bebr.store.redis.client import Argument, RedisClient, Script
from bebr.store.redis.keys import Keys

LEASE_SECONDS = 10.0
TOKEN = "token"
"""Key among the collections' uids, for which it is too short: the token that was given last."""
POLL_SECONDS = 0.2
SHARED = "shared "
"""How a lease begins that says that several services share the prefix: see `members.py`."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease."""

    host: str
    pid: int
    space: str
    """In which process ids mean the same: one boot of one machine, and one container of it."""
    folder: str
    """The data folder that it has locked."""
    path: str
    since: float

    @classmethod
    def here(cls, folder: Path) -> "Holder":
        """This process. folder: its data folder, which it has locked."""
        found, lock = folder.stat(), folder / "lock"
        key = f"{found.st_dev}:{found.st_ino}:{lock.read_text().split()[-1] if lock.exists() else ''}"
        return cls(socket.gethostname(), os.getpid(), _space(), key, str(folder.absolute()), time.time())

    @property
    def name(self) -> str:
        return f"{self.host}:{self.pid}, data folder {self.path}"

    def is_dead(self, here: "Holder") -> bool:
        """Whether it is certain, seen from another process, that this one does not run any more."""
        if self.folder == here.folder:
            return True
        return self.space == here.space != "" and not Path(f"/proc/{self.pid}").exists()


class Lease:
    """The lease of one store."""

    def __init__(self, client: RedisClient, keys: Keys, folder: Path) -> None:
        self._client = client
        self._key = keys.lease
        self._registry = keys.registry
        self._members = keys.members
        self._folder = folder
        self._script = Script.load("lease.lua")
        self._value = ""
        self._renewed = float("-inf")
        self.token = 0
        self.taken_by: str | None = None
        """Who has it now, where this process has lost it."""

    async def acquire(self) -> None:
        """Raise StoreUnavailable where another process holds it; wait for one that may have died to let it expire."""
        here = Holder.here(self._folder)
        self._value = json.dumps(asdict(here))
        expected, seen = "", None
        while found := await self._change(expected, self._value):
            value, left_ms = found
            holder = holder_of(value)
            if holder is not None and holder.is_dead(here):
                expected = value
                continue
            if seen is not None and (value != seen[0] or left_ms > seen[1]):  # it was renewed
                raise await self._refusal(value)
            expected, seen = "", found
            await asyncio.sleep(POLL_SECONDS)
        self._renewed = time.monotonic()
        self.token = int(await self._client.write_small("HINCRBY", self._registry, TOKEN, 1))

    async def renew(self) -> None:
        """Raises StoreUnavailable where another process has taken it."""
        found = await self._change(self._value, self._value)
        if found and await self._is_still_ours(found[0]):
            await self._client.write_small("HSET", self._registry, TOKEN, self.token, check=False)
            found = await self._change(found[0], self._value)
        if found:
            self.lost(found[0])
        self.check()
        self._renewed = time.monotonic()

    async def _is_still_ours(self, found: str) -> bool:
        """Whether it expired and nobody had it meanwhile, or the store went back to a time when a dead process had it.

        Raises StoreUnavailable where whoever had it then may be alive: it keeps renewing it, or lets it expire.
        """
        given = int(await self._client.peek("HGET", self._registry, TOKEN) or 0)
        if not found:
            return given <= self.token
        if given >= self.token:
            return False
        holder = holder_of(found)
        if holder is not None and holder.is_dead(Holder.here(self._folder)):
            return True
        raise StoreUnavailable(
            f"the store went back to a time when {holder.name if holder else 'another process'} had this Redis prefix; "
            "waiting for that lease to expire"
        )

    def lost(self, to: str = "", token: int = 0) -> None:
        """Another process has a higher token."""
        holder = holder_of(to)
        self.taken_by = holder.name if holder else "another process"

    def check(self) -> None:
        """Raise StoreUnavailable unless this process holds it for certain."""
        if self.taken_by is not None:
            raise StoreUnavailable(
                f"{self.taken_by} has taken over this Redis prefix while this process was away; stop one of the two, "
                "and restart this one if it is to go on"
            )

    def check_fresh(self) -> None:
        """The same for writes that no token guards: it must have been renewed in time."""
        self.check()
        if time.monotonic() - self._renewed > LEASE_SECONDS:
            raise StoreUnavailable("the lease of the store is being renewed; try again")

    async def release(self) -> None:
        await self._change(self._value, "")

    async def _change(self, before: str, after: str) -> tuple[str, int] | None:
        """None once it is `after`; where it is not `before`: what it is, and for how many ms."""
        arguments: list[Argument] = [before, after, round(LEASE_SECONDS * 1000)]
        answer = await self._client.run(
            self._script, [self._key], arguments, changes=False, check=False, past_maxmemory=True
        )
        if answer[0] or answer[1].decode() == after:
            return None
        return answer[1].decode(), answer[2]

    async def _refusal(self, found: str) -> StoreUnavailable:
        if found.startswith(SHARED):
            members = await self._client.read("HVALS", self._members)
            names = ", ".join(sorted(json.loads(text.partition(b" ")[2])["name"] for text in members)) or "unknown"
            return StoreUnavailable(
                f"this Redis prefix is shared by {names}; start this service with shared_store too, stop those, or "
                "choose another redis_prefix",
                holder=names,
            )
        holder = holder_of(found)
        who = holder.name if holder else "unknown"
        return StoreUnavailable(
            f"this Redis prefix is in use by another bebr ({who}); stop that one, or choose another redis_prefix",
            holder=who,
        )


def holder_of(value: str) -> Holder | None:
    """None where the lease is nobody's, or of a release that wrote it in another way."""
    try:
        return Holder(**json.loads(value))
    except (ValueError, TypeError):
        return None


def _space() -> str:
    """Empty where it cannot be told."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
