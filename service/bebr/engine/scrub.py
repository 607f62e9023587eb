"""Reads what collections have on disk, slowly and again and again, so that damage is found before it is needed."""

import asyncio

from bebr.engine.collections.registry import CollectionRegistry

REST_SECONDS = 60.0
"""Between two rounds over all collections."""


async def scrub_for_ever(registry: CollectionRegistry, bytes_per_second: int) -> None:
    """What is damaged is made anew from the store. Runs until it is cancelled."""
    while bytes_per_second:
        await _scrub_all(registry, bytes_per_second)
        await asyncio.sleep(REST_SECONDS)


async def _scrub_all(registry: CollectionRegistry, bytes_per_second: int) -> None:
    """Nothing of a collection may be held between two rounds: it would keep the files of a dropped one."""
    for collection in list(registry.collections.values()):
        if collection.ready and not collection.closed:
            await collection.shards.scrub(bytes_per_second)
