"""News: whoever follows a store hears of each commit from the server, instead of asking every now and then.

A message may be lost with its connection; `Watch` looks at the shards all the same.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from bebr.store.redis.addresses import first_that_answers
from bebr.telemetry import event

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
CONNECT_SECONDS = 5.0
"""Where several nodes are named: how long each is waited for."""


class News:
    """Listens on a connection of its own to what `commit.lua` publishes: "<uid> <shard> <last seq>"."""

    def __init__(self, url: str, channel: str) -> None:
        self._url, self._channel = url, channel
        self._task: asyncio.Task[None] | None = None
        self.on_commit: Callable[[Mapping[str, Mapping[int, int]]], None] = lambda last_seqs: None

    async def start(self) -> None:
        """Return once it listens, or could not connect, which is tried again."""
        listening = asyncio.Event()
        self._task = asyncio.create_task(self._listen_for_ever(listening))
        await listening.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _listen_for_ever(self, listening: asyncio.Event) -> None:
        while True:
            try:
                await self._listen(listening)
            except (RedisError, OSError) as error:
                event(log, "no news from the store", logging.DEBUG, why=error)
            listening.set()
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, listening: asyncio.Event) -> None:
        url = await first_that_answers(self._url, CONNECT_SECONDS)
        async with Redis.from_url(url, socket_timeout=None) as redis, redis.pubsub() as pubsub:
            await pubsub.subscribe(self._channel)
            async for message in pubsub.listen():
                if message["type"] == "message":
                    self._tell(message["data"])
                else:
                    listening.set()

    def _tell(self, data: Any) -> None:
        with suppress(ValueError):  # what somebody else has published there
            uid, shard, seq = data.decode().split()
            self.on_commit({uid: {int(shard): int(seq)}})
