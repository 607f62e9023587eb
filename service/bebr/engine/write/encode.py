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
        rows = np.stack([drafts[place].payload for place in vectors])
        records[vectors] = await encode_vectors(collection, version, rows, encoding.threads)
    if texts := places[Source.TEXT]:
        records[texts] = await encode_texts(collection, version, [drafts[place].payload for place in texts], encoding)
    return records


async def encode_vectors(
    collection: Collection, version: Version, rows: NDArray[np.float32], threads: Executor
) -> Records:
    """Unit rows (rows, dims) float32 -> records (rows, record_size_bytes) uint8."""
    encode = collection.encoders.codec(version).encode
    return await asyncio.get_running_loop().run_in_executor(threads, encode, rows)


async def encode_texts(collection: Collection, version: Version, texts: Sequence[str], encoding: Encoding) -> Records:
    """-> records (texts, record_size_bytes) uint8, by the embedding model and the binarizer of the version."""
    embedder, key = collection.encoders.embedder(version), collection.document.uid
    embeddings, _ = await encoding.texts.embed(encoding.lane, embedder, texts, TextKind.PASSAGE, key)
    return await encode_vectors(collection, version, embeddings, encoding.threads)
