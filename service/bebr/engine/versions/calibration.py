"""Scales between two models by a collection's own points, where an evaluation has embedded a sample of them.

The reference that a bundle brings is of the texts that it was trained on. Where these are unlike the collection's, its
tails say little: measured, climate-fever with a quarter of the points re-encoded kept nDCG@10 .218 of .293 by a
reference of other texts, and .318 by 512 of its own points. A sample is kept in the store beside the collection: it is
what codes and models make of a few hundred texts, about 1 MB.
"""

import base64
import io
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.encoding.adapters.adapter import Reference
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version
from bebr.store import MetadataStore

Floats = NDArray[np.float32]
KIND = "calibration"
ARRAYS = ("here", "there", "queries_here", "queries_there")


@dataclass(frozen=True)
class Sample:
    """Of some points what their codes stand for in two versions, and of some more their embeddings by both models.

    queries_there is empty where the other model cannot embed.
    """

    reference: Reference
    queries_here: Floats
    queries_there: Floats

    def to_document(self) -> dict[str, Any]:
        buffer = io.BytesIO()
        arrays = (self.reference.here, self.reference.there, self.queries_here, self.queries_there)
        rounded: dict[str, Any] = {name: rows.astype(np.float16) for name, rows in zip(ARRAYS, arrays, strict=True)}
        np.savez(buffer, **rounded)
        return {"arrays": base64.b64encode(buffer.getvalue()).decode()}

    @classmethod
    def from_document(cls, document: Any) -> "Sample":
        with np.load(io.BytesIO(base64.b64decode(document["arrays"]))) as file:
            here, there, queries_here, queries_there = (np.asarray(file[name], np.float32) for name in ARRAYS)
        return cls(Reference(here, there), queries_here, queries_there)


class Calibrations:
    """Keeps samples and brings the adapters of collections to their scale."""

    def __init__(self, store: MetadataStore) -> None:
        self._store = store

    async def keep(self, collection: Collection, here: Version, there: Version, sample: Sample) -> None:
        """Go by a sample from now on. here: the version whose queries search the codes of the other."""
        pair = str(here.model_fingerprint), str(there.model_fingerprint)
        document = sample.to_document()
        await self._store.put_document(KIND, _name(collection, pair), document)
        _calibrate(collection, pair, Sample.from_document(document))  # rounded, as after a restart

    async def apply(self, collection: Collection) -> None:
        """Bring adapters that were opened anew to the scales that are kept."""
        for pair in list(collection.encoders.adapters):
            kept = await self._store.get_document(KIND, _name(collection, pair))
            if kept is not None:
                _calibrate(collection, pair, Sample.from_document(kept))

    async def forget(self, collection: Collection) -> None:
        """Remove what a deleted collection had, of versions that are retired too."""
        models = dict.fromkeys(str(version.model_fingerprint) for version in collection.document.versions)
        for pair in permutations(models, 2):
            await self._store.delete_document(KIND, _name(collection, pair))


def _calibrate(collection: Collection, pair: tuple[str, str], sample: Sample) -> None:
    """Both directions."""
    adapters = dict(collection.encoders.adapters)
    here, there = sample.queries_here, sample.queries_there
    dual, back = (there, pair[::-1]) if len(there) else (None, None)
    if pair in adapters:
        adapters[pair] = adapters[pair].calibrated(sample.reference, here, dual)
    if back is not None and back in adapters:
        adapters[back] = adapters[back].calibrated(sample.reference.turned(), there, here)
    collection.encoders.adapters = adapters


def _name(collection: Collection, pair: tuple[str, str]) -> str:
    return f"{collection.document.uid}-{pair[0][:16]}-{pair[1][:16]}"
