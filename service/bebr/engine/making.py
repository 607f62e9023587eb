"""Makes collections, and removes them with all that they have."""

import asyncio

from bebr.config import Limits
from bebr.encoding import BundleRegistry
from bebr.engine.capacity import CapacityGuard
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.events import CollectionEvents
from bebr.engine.loader import CollectionLoader
from bebr.engine.requests import CollectionSettings
from bebr.engine.search.searchers import Searchers
from bebr.engine.versions.first_version import first_version
from bebr.errors import InvalidOption


class CollectionMaker:
    """Of one engine."""

    def __init__(
        self,
        registry: CollectionRegistry,
        bundles: BundleRegistry,
        *,
        loader: CollectionLoader,
        events: CollectionEvents,
        searchers: Searchers,
        guard: CapacityGuard,
        limits: Limits,
    ) -> None:
        self._registry = registry
        self._bundles = bundles
        self._loader = loader
        self._events = events
        self._searchers = searchers
        self._guard = guard
        self._limits = limits

    async def create(self, name: str, settings: CollectionSettings) -> Collection:
        """Raises AlreadyExists, BundleNotFound, DamagedBundle, InvalidOption, InvalidSpec."""
        registry = self._registry
        registry.check_changes()
        registry.check_ready()
        self._guard.check()
        if registry.refresh is None:  # else another service may have deleted it
            registry.check_new(name)
        version, plan = await asyncio.to_thread(first_version, settings, self._bundles, self._limits)
        document = registry.new_document(settings, version, plan)
        await self._loader.warm(document)  # which may take long: others change names meanwhile
        async with registry.naming():
            registry.check_new(name)
            return await self._loader.make(name, document)

    async def delete(self, name: str) -> None:
        """Forget a collection, its points, its segments and the aliases that point to it."""
        registry, loader = self._registry, self._loader
        registry.check_changes()
        registry.check_ready()
        async with registry.naming():
            if (entry := registry.damaged.get(name)) is not None:
                loader.prepare_removal(entry.uid)
                await registry.forget(name)
                await loader.remove_damaged(entry)
                return
            collection = registry.find(name)
            if collection.name != name:
                raise InvalidOption(
                    f"'{name}' is an alias of '{collection.name}'; delete that, or the alias", key="name"
                )
            loader.prepare_removal(collection.document.uid)
            await registry.forget(name)
            await self._events.closing(collection)  # from here on no job of it can begin
            self._searchers.forget(collection.document.uid)
            await loader.remove(collection)
