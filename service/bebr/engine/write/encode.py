"""Encode: what points were sent with becomes their records, in threads."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr.encoding import TextKind
from bebr.engine.admission import Lane
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.reservoir import Rows
from bebr.engine.collections.version import Version
from bebr.engine.texts import TextQueues
from bebr.engine.write.parse import Draft, Source

Records = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Encoding:
    """Where records are made."""

    texts: TextQueues
    lane: Lane
    """Of the texts."""
    threads: Executor


async def encode_drafts(
    collection: Collection, version: Version, drafts: Sequence[Draft], encoding: Encoding
) -> Records:
    """-> records (drafts, record_size_bytes) uint8 of the version, in the order of the drafts."""
    records = np.empty((len(drafts), version.spec.record_size_bytes), np.uint8)
    places: dict[Source, list[int]] = {source: [] for source in Source}
    for place, draft in enumerate(drafts):
        places[draft.source].append(place)
    if codes := places[Source.CODE]:
        records[codes] = [drafts[place].payload for place in codes]
    if vectors := places[Source.VECTOR]:
        rows, ids = np.stack([drafts[place].payload for place in vectors]), [drafts[place].id for place in vectors]
        records[vectors] = await encode_vectors(collection, version, ids, rows, encoding.threads)
    if places_of_texts := places[Source.TEXT]:
        ids = [drafts[place].id for place in places_of_texts]
        texts = [drafts[place].payload for place in places_of_texts]
        records[places_of_texts] = await encode_texts(collection, version, ids, texts, encoding)
    return records


async def encode_vectors(
    collection: Collection, version: Version, ids: Sequence[str], rows: NDArray[np.float32], threads: Executor
) -> Records:
    """Unit rows (rows, dims) float32 of these points -> records (rows, record_size_bytes) uint8."""
    codec, reservoir = collection.encoders.codec(version), collection.reservoir
    sampled = version.buffered_dims is None and reservoir.takes(version.model_fingerprint, rows.shape[1])

    def encode() -> tuple[Records, Rows]:
        return codec.encode(rows), reservoir.encode(ids, rows) if sampled else {}

    records, taken = await asyncio.get_running_loop().run_in_executor(threads, encode)
    if taken:
        reservoir.add(taken)
    return records


async def encode_texts(
    collection: Collection, version: Version, ids: Sequence[str], texts: Sequence[str], encoding: Encoding
) -> Records:
    """-> records (texts, record_size_bytes) uint8, by the embedding model and the binarizer of the version.

    ids: of the points that the texts are of.
    """
    embedder, key = collection.encoders.embedder(version), collection.document.uid
    embeddings, _ = await encoding.texts.embed(encoding.lane, embedder, texts, TextKind.PASSAGE, key)
    return await encode_vectors(collection, version, ids, embeddings, encoding.threads)
