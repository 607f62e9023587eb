"""A URL that names several nodes of a cluster: each of them tells of the others, and some may be down."""

from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import Redis

from bebr.store.redis.failures import FAILURES


def addresses_of(url: str) -> list[str]:
    """A URL for each node: redis://user:password@a:6379,b:6379 names two."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [url]
    return [urlunsplit(parts._replace(netloc=f"{user}{at}{host}")) for host in hosts.split(",")]


async def first_that_answers(url: str, timeout_seconds: float) -> str:
    """The URL of the first node that answers; where none does, of the first, which then says why."""
    addresses = addresses_of(url)
    for address in addresses if len(addresses) > 1 else ():
        with suppress(*FAILURES):
            async with Redis.from_url(
                address, socket_connect_timeout=timeout_seconds, socket_timeout=timeout_seconds
            ) as redis:
                await redis.ping()
                return address
    return addresses[0]
