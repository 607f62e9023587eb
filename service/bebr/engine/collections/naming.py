"""Who changes names of collections and aliases: one at a time of all services that share a store.

A collection and an alias never have one name, and a name has one collection. Documents of the two kinds cannot be
compared in one step, so whoever changes names has a lease of the store for that, and looks first at what there is.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

from bebr.engine.leases import kept
from bebr.errors import StoreUnavailable
from bebr.store import MetadataStore

LEASE = "names"
LEASE_SECONDS = 15.0
POLL_SECONDS = 0.02
WAIT_SECONDS = 30.0


class Naming:
    """That of one service. Where no other writes to the store there is no lease."""

    def __init__(self, store: MetadataStore) -> None:
        self._store = store
        self._holder = uuid4().hex
        self._token: int | None = None
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def alone(self, refresh: Callable[[], Awaitable[None]] | None) -> AsyncIterator[None]:
        """Have the names to oneself, as they are now. refresh: takes over what others have changed.

        Raises StoreUnavailable, also where another service has them for too long.
        """
        if refresh is None:
            yield
            return
        async with self._turn:
            self._token = token = await self._take()
            try:
                async with kept(self._store, LEASE, token, LEASE_SECONDS):
                    await refresh()
                    yield
            finally:
                self._token = None

    async def renew(self) -> None:
        """Before a change: raises StoreUnavailable where another service may have the names by now."""
        if self._token is not None and not await self._store.renew_lease(LEASE, self._token, LEASE_SECONDS):
            raise StoreUnavailable("another service has changed names meanwhile; try again", sent=False)

    async def _take(self) -> int:
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        while (token := await self._store.take_lease(LEASE, self._holder, LEASE_SECONDS)) is None:
            if asyncio.get_running_loop().time() > deadline:
                raise StoreUnavailable("another service is changing names; try again", sent=False)
            await asyncio.sleep(POLL_SECONDS)
        return token
