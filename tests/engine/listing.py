"""A collection `docs` of a fit whose points are in lists, that were measured."""

from typing import Any

import numpy as np
from tests.encoding.quantization.embeddings import text_like
from tests.engine.fitting import DIMS, make, reached, write
from tests.waiting import until

from bebr.engine import Engine, FitSettings, SearchRequest
from bebr.engine.collections.collection import Collection
from bebr.engine.results import SearchResult

POINTS = 3_000
ROWS = text_like(POINTS, dims=DIMS)
QUERIES = text_like(60, seed=5, dims=DIMS)
SETTINGS = {"lists_from_points": 2_900, "head_rows": 256, "coverage_one_in": 0}


async def in_lists(engine: Engine, generation: int = 1) -> None:
    """Return once most rows are in lists of a generation, and no more are to be sorted."""
    collection = engine.registry.get("docs")

    async def are_sorted() -> bool:
        number = collection.active.number
        held, unsorted = collection.shards.lists().get(number), collection.shards.list_stats(number).unsorted
        return held is not None and held.generations == (generation,) and held.rows > 0.7 * POINTS and not unsorted

    await until(are_sorted, f"lists of generation {generation}")


async def listed(engine: Engine, rescore_bytes: int = 0, **changes: Any) -> Collection:
    collection = await make(engine, FitSettings(bytes=8, sample=300, dims=DIMS, rescore_bytes=rescore_bytes), **changes)
    for start in range(0, POINTS, 500):
        await write(engine, range(start, min(POINTS, start + 500)), ROWS)
    await reached(engine, "done")
    await in_lists(engine)
    await engine.list_measuring.measure_due(collection)
    return collection


async def search(engine: Engine, row: np.ndarray, **options: Any) -> SearchResult:
    (result,) = await engine.search("docs", [SearchRequest(vector=row, explain=True, **options)])
    return result


def ids(result: SearchResult) -> list[str]:
    return [hit.id for hit in result.hits]


async def recall(engine: Engine, rows: np.ndarray = QUERIES, **options: Any) -> float:
    """Of searches as they are, against exact ones."""
    found = wanted = 0
    exactly = {name: value for name, value in options.items() if name != "recall"}
    for row in rows:
        exact = ids(await search(engine, row, **exactly, exact=True))
        found += len(set(exact) & set(ids(await search(engine, row, **options))))
        wanted += len(exact)
    return found / wanted
