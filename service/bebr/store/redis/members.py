"""Members: several services write to one Redis prefix, each with a data folder of its own.

Each has an entry with a lifetime, which it renews; it is gone soon after the service was killed. While there is any,
the lease of the prefix (`lease.py`) says that it is shared, so that no service has it to itself meanwhile. All members
have one fencing token: what a service that had the prefix to itself before sends too late has a lower one.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from bebr import __version__
from bebr.errors import StoreUnavailable
from bebr.store.protocol import Member
from bebr.store.redis.client import Argument, RedisClient, Script
from bebr.store.redis.keys import Keys
from bebr.store.redis.lease import LEASE_SECONDS, POLL_SECONDS, TOKEN, Holder, holder_of


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the store has of a member."""

    id: str
    name: str
    version: str
    holder: Holder
    is_partial: bool
    """It has not all shards, or none."""

    @classmethod
    def of(cls, text: str) -> "_Entry":
        found, _, said = text.partition(" ")
        values = json.loads(said)
        holder = Holder(**values["holder"])
        return cls(found, values["name"], values["version"], holder, values.get("partial", False))


class Membership:
    """That of one open store. It does for a shared prefix what `Lease` does for one that a service has to itself."""

    def __init__(self, client: RedisClient, keys: Keys, folder: Path, name: str, is_partial: bool = False) -> None:
        """name: what the others call it, with {host} and {pid} in it. is_partial: it has not all shards, or none."""
        self._client, self._keys, self._folder, self._name = client, keys, folder, name
        self._script = Script.load("member.lua")
        self._id = uuid4().hex[:16]
        self._is_partial = is_partial
        self._said = ""
        self._entries: Sequence[_Entry] = ()
        self._renewed = float("-inf")
        self._fence = 0
        """The highest token for which this member was refused."""
        self.token = 0
        self.taken_by: str | None = None
        """Who has the prefix to itself now."""

    @property
    def viewers(self) -> list[str]:
        """Ids of all members, this one included, as they were when this one was renewed last; before those that have
        some shards, or none, a ~."""
        return ["~" * entry.is_partial + entry.id for entry in self._entries]

    @property
    def id(self) -> str:
        """That of this member."""
        return self._id

    async def acquire(self) -> None:
        """Join. Raises StoreUnavailable where another service has the prefix to itself; waits for one that may have
        died to let its lease expire."""
        here = Holder.here(self._folder)
        said = {
            "name": self._name.replace("{host}", here.host).replace("{pid}", str(here.pid)),
            "version": __version__,
            "holder": asdict(here),
            "partial": self._is_partial,
        }
        self._said = json.dumps(said)
        seen: tuple[str, int] | None = None
        while found := await self._join():
            value, left_ms = found
            holder = holder_of(value)
            if holder is not None and holder.is_dead(here):
                await self._client.run(
                    Script.load("lease.lua"), [self._keys.lease], [value, "", 0], changes=False, past_maxmemory=True
                )
                continue
            if seen is not None and (value != seen[0] or left_ms > seen[1]):  # it was renewed
                raise _refusal(holder)
            seen = found
            await asyncio.sleep(POLL_SECONDS)
        await self._remove_dead(here)

    async def renew(self) -> None:
        """Raises StoreUnavailable where a service has taken the prefix for itself."""
        if found := await self._join():
            self.lost(found[0])
        self.check()

    async def _join(self) -> tuple[str, int] | None:
        """None once it is a member; else the lease of whoever has the prefix to itself, and for how many ms."""
        began = time.monotonic()
        answer = await self._run(self._said, 0)
        if answer[0] == 2 or (answer[0] == 1 and int(answer[1]) < self._fence):
            token = await self._next_token()
            began = time.monotonic()
            answer = await self._run(self._said, token)
        if answer[0] == 0:
            return answer[1].decode(), answer[2]
        self.token, self.taken_by = int(answer[1]), None
        self._entries = [_Entry.of(one.decode()) for one in answer[2:]]
        self._renewed = began
        return None

    async def _next_token(self) -> int:
        """For the first member, where the store went back, and where a token was given that the members have not: two
        began at once, or one died while it did."""
        given = int(await self._client.peek("HGET", self._keys.registry, TOKEN) or 0)
        if not self.token or given > self.token:
            given = int(await self._client.write_small("HINCRBY", self._keys.registry, TOKEN, 1, check=False))
        lowest = max(self.token, self._fence + 1)
        if given < lowest:
            await self._client.write_small("HSET", self._keys.registry, TOKEN, lowest, check=False)
        return max(given, lowest)

    async def _remove_dead(self, here: Holder) -> None:
        """Those that are certain to run no more, such as the one that had this data folder."""
        dead = [one.id for one in self._entries if one.id != self._id and one.holder.is_dead(here)]
        if dead:
            answer = await self._run(self._said, 0, dead)
            self._entries = [_Entry.of(one.decode()) for one in answer[2:]] if answer[0] == 1 else self._entries

    async def _run(self, said: str, token: int, dead: Sequence[str] = ()) -> list[Any]:
        arguments: list[Argument] = [self._id, said, round(LEASE_SECONDS * 1000), token, *dead]
        keys = [self._keys.lease, self._keys.members]
        answer: list[Any] = await self._client.run(
            self._script, keys, arguments, changes=False, check=False, past_maxmemory=True
        )
        return answer

    def lost(self, to: str = "", token: int = 0) -> None:
        """A service has a higher token: one that has the prefix to itself, or, where `to` is not known, maybe members
        that began anew, which the next `renew` joins. token: that one."""
        if to:
            holder = holder_of(to)
            self.taken_by = holder.name if holder else "another service"
        else:
            self._fence = max(self._fence, token)
            self._renewed = float("-inf")

    def check(self) -> None:
        """Raise StoreUnavailable unless this service is a member for certain."""
        if self.taken_by is not None:
            raise StoreUnavailable(
                f"{self.taken_by} has taken this Redis prefix for itself while this service was away; stop it, or "
                "choose another redis_prefix"
            )

    def check_fresh(self) -> None:
        """The same for writes that no token guards: it must have been renewed in time."""
        self.check()
        if time.monotonic() - self._renewed > LEASE_SECONDS:
            raise StoreUnavailable("this service's entry among those that share the store is being renewed; try again")

    async def release(self) -> None:
        await self._run("", self.token)

    def members(self) -> list[Member]:
        """Those that there were when this one was renewed last, by name."""
        found = [
            Member(one.name, one.version, one.holder.since, one.holder.path, one.id == self._id)
            for one in self._entries
        ]
        return sorted(found, key=lambda one: (one.name, one.since))


def _refusal(holder: Holder | None) -> StoreUnavailable:
    who = holder.name if holder else "unknown"
    return StoreUnavailable(
        f"this Redis prefix is in use by a bebr that has it to itself ({who}); stop that one and start it with "
        "shared_store too, or choose another redis_prefix",
        holder=who,
    )
