"""Work that one of several services on a store does at a time: whoever has the lease of the store for it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.leases import kept
from bebr.errors import Unavailable
from bebr.store import MetadataStore

LEASE_SECONDS = 15.0
"""A service that died is followed by another after this."""
POLL_SECONDS = 1.0


class Alone:
    """The leases of one service. Where no other writes to the store there are none."""

    def __init__(self, registry: CollectionRegistry, store: MetadataStore) -> None:
        self._registry, self._store = registry, store
        self._holder = uuid4().hex
        self._tokens: dict[str, int] = {}
        """By task: of the leases that are had."""

    @asynccontextmanager
    async def doing(
        self, task: str, rest: Callable[[float], Awaitable[None]], lost: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Wait for the lease, and have it. rest: what it raises ends the waiting. lost: another service has it now."""
        refresh = self._registry.refresh
        if refresh is None:
            yield
            return
        while (token := await self._take(task)) is None:
            await rest(POLL_SECONDS)
        self._tokens[task] = token
        try:
            async with kept(self._store, task, token, LEASE_SECONDS, lost):
                await refresh()  # another may have done it by now
                yield
        finally:
            self._tokens.pop(task, None)

    async def holds(self, task: str) -> bool:
        """Before what no other may do as well: whether nobody has had the lease since it was taken. It is whole again
        then. Raises StoreUnavailable."""
        if self._registry.refresh is None:
            return True
        return await self._store.renew_lease(task, self._tokens[task], LEASE_SECONDS)

    async def _take(self, task: str) -> int | None:
        try:
            return await self._store.take_lease(task, self._holder, LEASE_SECONDS)
        except Unavailable:
            return None
