"""What a query is, where that is not in its request: the code of a point, or the embedding of a text."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version
from bebr.engine.search.query import Query
from bebr.engine.search.route import needed_texts
from bebr.errors import PointNotFound

Embed = Callable[[Version, list[str]], Awaitable[NDArray[np.float32]]]
"""Query texts -> their embeddings (texts, dims) float32 by the model of a version."""


async def read_codes(collection: Collection, queries: list[Query]) -> list[Query]:
    """A query by id becomes one by the code of that point. Raises PointNotFound."""
    ids = [query.request.id for query in queries if query.request.id is not None]
    if not ids:
        return queries
    points = await collection.fetch(list(dict.fromkeys(ids)), metadata=False, records=True)
    versions = collection.document.versions
    read: list[Query] = []
    for query in queries:
        if (point_id := query.request.id) is not None:
            if (point := points.get(point_id)) is None:
                where = {"search": len(read)} if len(queries) > 1 else {}
                raise PointNotFound(f"no point with id '{point_id}' to search by", key="id", id=point_id, **where)
            record = np.frombuffer(point.record, np.uint8)[None]
            query = replace(query, version=versions[point.version], record=record)
        read.append(query)
    return read


async def embed_texts(
    collection: Collection, queries: list[Query], versions: Sequence[Version], embed: Embed
) -> list[Query]:
    """Texts are embedded by the model of their version, and by other models where a route needs that.

    versions: those that are searched.
    """
    others: list[dict[str, Version]] = [{} for _ in queries]
    by_model: dict[str, tuple[Version, dict[str, int]]] = {}
    for place, query in enumerate(queries):
        if (text := query.request.text) is None:
            continue
        if versions != [query.version]:
            others[place] = needed_texts(collection.encoders, collection.document, query.version, versions)
        for version in (query.version, *others[place].values()):
            rows = by_model.setdefault(version.model_fingerprint or "", (version, {}))[1]
            rows.setdefault(text, len(rows))
    embeddings = await asyncio.gather(*(embed(version, [*rows]) for version, rows in by_model.values()))
    found = dict(zip(by_model, embeddings, strict=True))

    def embedding(version: Version, text: str) -> NDArray[np.float32]:
        model = version.model_fingerprint or ""
        row = by_model[model][1][text]
        return found[model][row : row + 1]

    return [
        query
        if (text := query.request.text) is None
        else replace(
            query,
            embedding=embedding(query.version, text),
            duals={model: embedding(version, text) for model, version in others[place].items()},
        )
        for place, query in enumerate(queries)
    ]
