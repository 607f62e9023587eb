"""What the errors of a Redis server mean: bebr's error for each, and why a server takes no connections."""

import asyncio
from typing import Any

from redis.asyncio import SSLConnection
from redis.exceptions import (
    AuthenticationError,
    OutOfMemoryError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from bebr.errors import BebrError, DamagedStore, InsufficientStorage, StoreUnavailable

FAILURES = (RedisError, RedisClusterException, OSError)
"""What the library raises where a server is away; where a cluster's map leads to none, that is no RedisError."""
REFUSAL_SECONDS = 1.0
"""How long to wait for what a server says before it hangs up."""


def is_refusal(error: BaseException | None) -> bool:
    """Whether a server answered, with an error; the library gives some of them as the cause of a lost connection."""
    kinds = (ResponseError, AuthenticationError)
    return isinstance(error, kinds) or (error is not None and isinstance(error.__cause__, kinds))


async def refusal(redis: Any) -> str:
    """Why a server hangs up on new connections, such as "DENIED Redis is running in protected mode ...".

    It says so before anything is sent, and what it says is lost with the connection where something was. Empty where it
    says nothing, and for clusters and TLS.
    """
    pool = getattr(redis, "connection_pool", None)
    if pool is None or issubclass(pool.connection_class, SSLConnection):
        return ""
    path, host, port = (pool.connection_kwargs.get(name) for name in ("path", "host", "port"))
    try:
        async with asyncio.timeout(REFUSAL_SECONDS):
            reader, writer = await (asyncio.open_unix_connection(path) if path else asyncio.open_connection(host, port))
            try:
                said = await reader.readline()
            finally:
                writer.close()
    except (OSError, ValueError):  # the deadline is an OSError too
        return ""
    return said.removeprefix(b"-").decode(errors="replace").strip() if said.startswith(b"-") else ""


def translate(error: Exception) -> BebrError:
    """The bebr error that a Redis error represents."""
    text = str(error)
    if isinstance(error, ResponseError):
        # Before Redis 7 an error inside a script came wrapped in another one, so its name may stand anywhere.
        if isinstance(error, OutOfMemoryError) or "OOM" in text or "No space left" in text:
            return InsufficientStorage(f"Redis has no room left ({text}); raise maxmemory, or free some disk space")
        if "WRONGTYPE" in text:
            return DamagedStore(f"Redis holds a key under bebr's prefix that bebr did not write ({text})")
    if is_refusal(error):
        return StoreUnavailable(f"Redis refuses: {text:.300}")
    return StoreUnavailable(f"Redis does not answer ({text or type(error).__name__})")
