"""A lease of the store that somebody has taken: it is renewed while he is busy, and given back when he is done."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from bebr.errors import BebrError
from bebr.store import MetadataStore

RENEWALS = 3
"""How often a lease is renewed in the time that it lasts."""


@asynccontextmanager
async def kept(
    store: MetadataStore, name: str, token: int, seconds: float, lost: Callable[[], None] = lambda: None
) -> AsyncIterator[None]:
    """Renew a lease until the end, and release it then. lost: called where somebody else has had it meanwhile."""
    renewing = asyncio.create_task(_renew(store, name, token, seconds, lost))
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        with suppress(BebrError):
            await store.release_lease(name, token)


async def _renew(store: MetadataStore, name: str, token: int, seconds: float, lost: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds / RENEWALS)
        with suppress(BebrError):  # it ends by itself where the store is away for too long
            if not await store.renew_lease(name, token, seconds):
                return lost()
