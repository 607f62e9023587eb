"""The searchers of all collections, and the queues that embed query texts for them."""

import asyncio
from concurrent.futures import Executor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bebr.coalescer import Coalescer
from bebr.config import Limits
from bebr.encoding import TextKind
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version
from bebr.engine.search.search import Searcher, Texts

MAX_TEXTS_TOGETHER = 64


class Searchers:
    """One searcher for each collection, one queue of query texts for each embedding model."""

    def __init__(self, limits: Limits, scans: Executor, embeddings: Executor, *, batching: bool) -> None:
        """scans, embeddings: threads that run them. batching: gather what arrives while others are running."""
        self._limits = limits
        self._scans = scans
        self._embeddings = embeddings
        self._batching = batching
        self._searchers: dict[str, Searcher] = {}
        """By uid of the collection."""
        self._text_queues: dict[str, Texts] = {}
        """By fingerprint of the embedding model."""

    def of(self, collection: Collection) -> Searcher:
        """The searcher of a collection."""
        uid = collection.document.uid
        if uid not in self._searchers:
            texts = partial(self._texts, collection)
            self._searchers[uid] = Searcher(collection, self._limits, texts, self._scans, self._batching)
        return self._searchers[uid]

    def forget(self, uid: str) -> None:
        """Let go of a deleted collection."""
        self._searchers.pop(uid, None)

    def _texts(self, collection: Collection, version: Version) -> Texts:
        """Query texts of one model, embedded together when they arrive together."""
        embedder = collection.encoders.embedder(version)
        fingerprint, work = embedder.bundle.fingerprint, embedder.embed

        async def embed(texts: list[str]) -> list[NDArray[np.float32]]:
            loop = asyncio.get_running_loop()
            return list(await loop.run_in_executor(self._embeddings, work, texts, TextKind.QUERY))

        if fingerprint not in self._text_queues:
            together = MAX_TEXTS_TOGETHER if self._batching else 1
            queue = Coalescer(embed, what="query texts", max_batch=together, max_queue=self._limits.max_queue)
            self._text_queues[fingerprint] = queue
        return self._text_queues[fingerprint]
