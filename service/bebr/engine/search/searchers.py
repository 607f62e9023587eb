"""The searchers of all collections."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from bebr.config import Limits
from bebr.encoding import TextKind
from bebr.engine.admission import Admission
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version
from bebr.engine.search.coverage import CoverageChecks
from bebr.engine.search.search import Searcher
from bebr.engine.texts import TextQueues


class Searchers:
    """One searcher for each collection."""

    def __init__(
        self, limits: Limits, admission: Admission, texts: TextQueues, checks: CoverageChecks, *, batching: bool
    ) -> None:
        """checks: of some searches, in the background. batching: gather what arrives together, or while others run."""
        self._limits = limits
        self._admission = admission
        self._texts = texts
        self._checks = checks
        self._batching = batching
        self._searchers: dict[str, Searcher] = {}
        """By uid of the collection."""

    def of(self, collection: Collection) -> Searcher:
        """The searcher of a collection."""
        uid = collection.document.uid
        if uid not in self._searchers:
            embed = partial(self._embed, collection)
            self._searchers[uid] = Searcher(
                collection, self._limits, self._admission, embed, self._checks, self._batching
            )
        return self._searchers[uid]

    def forget(self, uid: str) -> None:
        """Let go of a deleted collection."""
        self._searchers.pop(uid, None)

    async def _embed(self, collection: Collection, version: Version, texts: list[str]) -> NDArray[np.float32]:
        """The embeddings (texts, dims) float32 of query texts by the model of a version."""
        embedder, lane = collection.encoders.embedder(version), self._admission.query_texts
        return (await self._texts.embed(lane, embedder, texts, TextKind.QUERY, collection.document.uid))[0]
