"""Scales between two models by a collection's own points, where an evaluation has embedded a sample of them.

The reference that a bundle brings is of the texts that it was trained on. Where these are unlike the collection's, its
tails say little (see docs/benchmarks.md). A sample is kept in the store beside the collection: it is what codes and
models make of a few hundred texts.
"""

import asyncio
import base64
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from bebr.encoding.adapters.adapter import Adapter, Reference
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.encoders import model_pair
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.collections.version import Version
from bebr.errors import DamagedStore, InvalidOption
from bebr.store import MetadataStore

log = logging.getLogger(__name__)
Floats = NDArray[np.float32]
Pair = tuple[str, str]
"""Fingerprints of the embedding models of queries and of codes."""
KIND = "calibration"
ARRAYS = ("here", "there", "queries_here", "queries_there")


@dataclass(frozen=True)
class Sample:
    """A sample of points and queries by two models: that of the new queries (here), and that of the codes (there)."""

    reference: Reference
    """What the points' codes represent in both versions."""
    queries_here: Floats
    """(queries, dims) float32."""
    queries_there: Floats
    """(queries, dims) float32 of the same texts; no rows where the other model cannot embed."""

    def to_document(self) -> dict[str, Any]:
        """As the store keeps it: rounded to 16 bits."""
        buffer = io.BytesIO()
        arrays = (self.reference.here, self.reference.there, self.queries_here, self.queries_there)
        rounded: dict[str, Any] = {name: rows.astype(np.float16) for name, rows in zip(ARRAYS, arrays, strict=True)}
        np.savez(buffer, **rounded)
        return {"arrays": base64.b64encode(buffer.getvalue()).decode()}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Sample":
        """Inverse of `to_document`, but for the rounding."""
        with np.load(io.BytesIO(base64.b64decode(document["arrays"]))) as file:
            here, there, queries_here, queries_there = (np.asarray(file[name], np.float32) for name in ARRAYS)
        return cls(Reference(here, there), queries_here, queries_there)


class Calibrations:
    """Keeps samples and brings the adapters of collections to their scale."""

    def __init__(self, store: MetadataStore) -> None:
        self._store = store

    async def save(self, collection: Collection, here: Version, there: Version, sample: Sample) -> None:
        """Use a sample from now on. here: the version whose queries search the codes of the other."""
        pair = model_pair(here, there)
        if pair is None:
            return
        document = await asyncio.to_thread(sample.to_document)
        await self._store.put_document(KIND, _name(collection.document, pair), document)
        await _calibrate(collection, pair, document)  # rounded, as after a restart

    async def apply(self, collection: Collection) -> None:
        """Bring adapters that were just opened to the scales that are kept."""
        for pair in list(collection.encoders.adapters):
            try:
                kept = await self._store.get_document(KIND, _name(collection.document, pair))
            except DamagedStore as error:
                log.error("scores of two models in collection %s: %s; evaluate again", collection.name, error.detail)
                continue
            if kept is not None:
                await _calibrate(collection, pair, kept)

    async def kept(self, document: CollectionDocument, pair: Pair) -> dict[str, Any] | None:
        """The sample of two models as the store keeps it; None: there is none."""
        return await self._store.get_document(KIND, _name(document, pair))

    async def put(self, document: CollectionDocument, samples: Sequence[Mapping[str, Any]]) -> None:
        """Keep samples of another store: `from`, `to`, `sample`. Raises InvalidOption for what is none."""
        models = {version.model_fingerprint for version in document.versions}
        for kept in samples:
            try:
                pair = str(kept["from"]), str(kept["to"])
                await asyncio.to_thread(Sample.from_document, kept["sample"])
            except (KeyError, TypeError, ValueError, OSError, EOFError, BadZipFile) as error:
                raise InvalidOption(f"'calibrations' holds no sample: {error!r:.200}", key="calibrations") from error
            if not models.issuperset(pair):
                raise InvalidOption("'calibrations' names a model that no version has", key="calibrations")
            await self._store.put_document(KIND, _name(document, pair), dict(kept["sample"]))

    async def forget(self, document: CollectionDocument) -> None:
        """Remove what a deleted collection had, also of retired versions."""
        models = [version.model_fingerprint for version in document.versions]
        for pair in permutations(dict.fromkeys(model for model in models if model is not None), 2):
            await self._store.delete_document(KIND, _name(document, pair))


async def _calibrate(collection: Collection, pair: Pair, document: Mapping[str, Any]) -> None:
    """Both directions, as the sample in the document says."""
    before = collection.encoders.adapters
    found = await asyncio.to_thread(_calibrated, before, pair, document)
    now = collection.encoders.adapters
    same = {pair: adapter for pair, adapter in found.items() if now.get(pair) is before[pair]}
    collection.encoders.adapters = {**now, **same}


def _calibrated(adapters: Mapping[Pair, Adapter], pair: Pair, document: Mapping[str, Any]) -> dict[Pair, Adapter]:
    """The adapters that are brought to the scale of the sample."""
    sample = Sample.from_document(document)
    here, there = sample.queries_here, sample.queries_there
    dual, back = (there, pair[::-1]) if len(there) else (None, None)
    found: dict[Pair, Adapter] = {}
    if pair in adapters:
        found[pair] = adapters[pair].calibrated(sample.reference, here, dual)
    if back is not None and back in adapters:
        found[back] = adapters[back].calibrated(sample.reference.turned(), there, here)
    return found


def _name(document: CollectionDocument, pair: Pair) -> str:
    return f"{document.uid}-{pair[0][:16]}-{pair[1][:16]}"
