"""Centroids in a store that several services share."""

from pathlib import Path

import numpy as np
from tests.index.lists.made import random_centroids

from bebr.core.codes import CodeSpec
from bebr.engine.collections.centroids import CollectionCentroids
from bebr.store.sqlite.store import SqliteStore

UID = "a" * 24


async def test_a_service_whose_disk_is_ill_does_not_take_them_from_the_others(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store")
    await store.open()
    (tmp_path / "ill").write_text("no folder")
    one, ill, other = (CollectionCentroids(store, UID, tmp_path / name) for name in ("one", "ill", "other"))
    for centroids in (one, ill, other):
        centroids.is_shared = True
    await one.add(random_centroids(np.random.default_rng(0), CodeSpec.parse("32x1")))
    assert await ill.load() == []
    assert [found.generation for found in await other.load()] == [1]
    await store.close()
