"""Opens collections, loads all of them from the store when the service starts, and removes what deleted ones leave."""

import asyncio
import logging
import shutil
from pathlib import Path

from bebr.engine.collections.collection import Collection, collection_folder
from bebr.engine.collections.encoders import Encoders
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.events import CollectionEvents
from bebr.engine.versions.calibration import Calibrations
from bebr.engine.versions.fitted_bundles import FittedBundles
from bebr.errors import Unavailable
from bebr.shards import LocalShards, ShardThreads
from bebr.store import MetadataStore

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0


class CollectionLoader:
    """Opens and removes collections."""

    def __init__(
        self,
        *,
        registry: CollectionRegistry,
        store: MetadataStore,
        encoders: Encoders,
        fitted_bundles: FittedBundles,
        calibrations: Calibrations,
        events: CollectionEvents,
        folder: Path,
        head_rows: int,
        max_queue: int,
        threads: ShardThreads,
    ) -> None:
        self._registry = registry
        self._store = store
        self._encoders = encoders
        self._fitted_bundles = fitted_bundles
        self._calibrations = calibrations
        self._events = events
        self._folder = folder
        self._head_rows = head_rows
        self._max_queue = max_queue
        self._threads = threads

    def open(self, name: str, document: CollectionDocument) -> Collection:
        """The collection with what its segment files hold. It reads files and loads models: call it in a thread."""
        shards = LocalShards(
            self._store,
            document.uid,
            collection_folder(self._folder, document.uid),
            name=name,
            shards=document.shards,
            specs={version.number: version.spec for version in document.versions},
            fields=document.filterable,
            head_rows=self._head_rows,
            max_queue=self._max_queue,
            threads=self._threads,
        )
        encoders = self._encoders.open(document)
        shards.open()
        return Collection(name=name, document=document, store=self._store, shards=shards, encoders=encoders)

    async def remove(self, collection: Collection) -> None:
        """Close a collection that the registry has forgotten, and remove its points, segments and bundles."""
        document = collection.document
        await collection.close(keep=False)
        await self._store.drop(document.uid)
        await asyncio.to_thread(shutil.rmtree, collection_folder(self._folder, document.uid), True)
        others = [other.document for other in self._registry.collections.values()]
        in_use = {version.fingerprint for other in others for version in other.versions}
        await self._calibrations.forget(collection)
        await self._fitted_bundles.forget(collection.name, document, in_use)
        await asyncio.to_thread(self._encoders.forget, document)

    async def load_all(self) -> None:
        """Load all collections, however long the store or the disk is away. The registry says what is missing."""
        registry = self._registry
        while registry.problem is not None:
            try:
                await self._load_all()
                registry.problem = None
            except Unavailable as error:
                registry.problem = f"waiting for the store: {error.detail}"
                log.warning("loading the collections: %s; trying again", error.detail)
                await asyncio.sleep(RETRY_SECONDS)
            except OSError as error:
                registry.problem = f"waiting for the disk: {error}"
                log.warning("loading the collections: %s; trying again", error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as error:
                registry.problem = f"{type(error).__name__}: {error}"
                log.exception("loading the collections failed")
                raise

    async def _load_all(self) -> None:
        registry = self._registry
        for name, document in (await registry.load_documents()).items():
            if name not in registry.collections:
                await self._fitted_bundles.restore(document)
                collection = await asyncio.to_thread(self.open, name, document)
                await self._calibrations.apply(collection)
                registry.collections[name] = collection
        registry.complete = True
        for collection in list(registry.collections.values()):
            await collection.catch_up()
            self._events.changed(collection)
