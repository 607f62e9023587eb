"""Leases of tasks in Redis: keys that expire unless they are renewed, beside the tokens that were given for each."""

from bebr.store.protocol import HeldLease
from bebr.store.redis.client import Argument, RedisClient, Script
from bebr.store.redis.keys import Keys


class TaskLeases:
    """Those of one store."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._script = Script.load("task_lease.lua")

    async def take(self, name: str, holder: str, seconds: float) -> int | None:
        return await self._run("take", name, holder, 0, seconds) or None

    async def renew(self, name: str, token: int, seconds: float) -> bool:
        return await self._run("renew", name, "", token, seconds) > 0

    async def release(self, name: str, token: int) -> None:
        await self._run("release", name, "", token, 0)

    async def held(self) -> list[HeldLease]:
        names = sorted(raw.decode() for raw in await self._client.read("HKEYS", self._keys.lease_tokens))
        if not names:
            return []
        values = await self._client.read("MGET", *map(self._keys.task_lease, names))
        parts = [(name, value.decode().partition(" ")) for name, value in zip(names, values, strict=True) if value]
        return [HeldLease(name, holder, int(token)) for name, (token, _, holder) in parts]

    async def _run(self, step: str, name: str, holder: str, token: int, seconds: float) -> int:
        keys = [self._keys.task_lease(name), self._keys.lease_tokens]
        arguments: list[Argument] = [step, name, holder, token, max(1, round(seconds * 1000))]
        found: int = await self._client.run(self._script, keys, arguments, changes=True, past_maxmemory=True)
        return found
