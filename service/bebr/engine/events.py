"""Who hears of what happens to collections: the jobs, which the engine does not know. `bootstrap` connects them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bebr.engine.collections.collection import Collection


def _ignore(collection: Collection) -> None:
    """Nobody listens."""


async def _ignore_closing(collection: Collection) -> None:
    """Nobody listens."""


@dataclass(slots=True)
class CollectionEvents:
    """What is called when something happens to a collection."""

    on_change: Callable[[Collection], None] = _ignore
    """Its points or its document changed, or it has just become ready. Called after every write: it must be cheap."""
    on_close: Callable[[Collection], Awaitable[None]] = _ignore_closing
    """It is about to be deleted; the lock of the registry is held."""

    def changed(self, collection: Collection) -> None:
        self.on_change(collection)

    async def closing(self, collection: Collection) -> None:
        await self.on_close(collection)
