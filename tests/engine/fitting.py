"""A collection `docs` with a fit, and how well its searches find what is near."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tests.encoding.quantization.embeddings import text_like
from tests.engine.running import running
from tests.waiting import until

from bebr.core.types import FieldType, WriteMode
from bebr.engine import CollectionSettings, Engine, FitSettings, SearchRequest
from bebr.engine.collections.collection import Collection
from bebr.engine.statuses import FitStatus

DIMS = 32
ROWS = text_like(900, dims=DIMS)
SAMPLE = 300
FIT = FitSettings(bytes=8, sample=SAMPLE, dims=DIMS)


async def make(engine: Engine, fit: FitSettings = FIT, **changes: Any) -> Collection:
    fields = {"n": FieldType.INTEGER}
    await engine.create_collection("docs", CollectionSettings(fit=fit, filterable=fields, **changes))
    return engine.registry.get("docs")


async def write(engine: Engine, numbers: range, rows: np.ndarray = ROWS) -> None:
    ids, metadata = [f"p{n:03}" for n in numbers], [{"n": n} for n in numbers]
    report = await engine.write_vectors("docs", ids, rows[list(numbers)], metadata, WriteMode.UPSERT)
    assert report.rejected == 0


async def fit_of(engine: Engine) -> FitStatus:
    fit = (await engine.describe_collection("docs")).fit
    assert fit is not None
    return fit


async def reached(engine: Engine, state: str) -> FitStatus:
    async def there() -> FitStatus | None:
        fit = await fit_of(engine)
        assert state == "failed" or fit.state != "failed", fit
        return fit if fit.state == state else None

    found = await until(there, f"a fit that is {state}")
    assert found is not None
    return found


async def nearest(engine: Engine, row: np.ndarray, limit: int = 10, **changes: Any) -> list[str]:
    (result,) = await engine.search("docs", [SearchRequest(vector=row, limit=limit, **changes)])
    return [hit.id for hit in result.hits]


def truth(row: np.ndarray, count: int, limit: int = 10) -> list[str]:
    return [f"p{n:03}" for n in np.argsort(-(ROWS[:count] @ row), kind="stable")[:limit]]


async def recall(engine: Engine, count: int) -> float:
    queries = text_like(30, seed=5, dims=DIMS)
    found = [set(await nearest(engine, row)) & set(truth(row, count)) for row in queries]
    return sum(map(len, found)) / 300


@asynccontextmanager
async def collecting(folder: Path) -> AsyncIterator[Engine]:
    async with running(folder) as engine:
        await make(engine)
        await write(engine, range(200))
        yield engine
