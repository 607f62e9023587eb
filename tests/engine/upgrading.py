"""A collection of several embedding models, and what its searches must find."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.running import running_jobs
from tests.engine.two_models import text_bundle, texts
from tests.waiting import until

from bebr.core.codes import split_records
from bebr.core.scoring import dot_scores, prepare_adc
from bebr.core.types import FieldType, WriteMode
from bebr.encoding import AdapterKind, TextKind
from bebr.engine import CollectionSettings, Engine, EvaluationRequest, Gate, SearchRequest
from bebr.engine.collections.version import Version
from bebr.jobs import BackfillJob, JobQueue

TEXTS = texts(140)
FIELDS = {"n": FieldType.INTEGER}
HOW = EvaluationRequest(sample=40, points=100)
FAST = 1_000_000.0
NEAR = 30
"""Of 120 points a text's own is among so many, also over two maps between models of random weights."""


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """old@1; new@1 with adapters to it; newest@1 with adapters to new@1 only; other@1 with none."""
    folder = tmp_path_factory.mktemp("bundles")
    old = text_bundle(folder, "old@1", seed=0)
    new = text_bundle(folder, "new@1", seed=1, code="16x4+16x2", old=old)
    text_bundle(folder, "newest@1", seed=2, old=new)
    text_bundle(folder, "other@1", seed=3)
    return folder


@asynccontextmanager
async def upgrading(
    folder: Path, bundles: Path, count: int = 120, text_field: str | None = "text"
) -> AsyncIterator[Engine]:
    """A collection `docs` of old@1 with so many points; it is there already when the folder was used before."""
    async with upgrading_jobs(folder, bundles, count, text_field) as (engine, _):
        yield engine


@asynccontextmanager
async def upgrading_jobs(
    folder: Path, bundles: Path, count: int = 120, text_field: str | None = "text", **changes: Any
) -> AsyncIterator[tuple[Engine, JobQueue]]:
    """`upgrading`, and the jobs. changes: of settings."""
    changes = {"bundles_dir": bundles, "search_threads": 1, "encoder_threads": 1} | changes
    async with running_jobs(folder, **changes) as (engine, jobs):
        if not engine.list_collections():
            settings = CollectionSettings(bundle="old@1", filterable=FIELDS, shards=3, text_field=text_field)
            await engine.create_collection("docs", settings)
            await write(engine, range(count))
        yield engine, jobs


async def write(engine: Engine, numbers: Any, **options: Any) -> None:
    points = [{"id": f"p{n:03}", "text": TEXTS[n], "metadata": {"n": n}} for n in numbers]
    report = await engine.write_points("docs", points, WriteMode.UPSERT, **options)
    assert report.rejected == 0


async def search(engine: Engine, **request: Any) -> Any:
    return (await engine.search("docs", [SearchRequest(**{"limit": 200, "explain": True} | request)]))[0]


async def counts(engine: Engine) -> dict[str, int]:
    found: dict[str, int] = (await engine.describe_collection("docs")).points
    return found


async def ended(jobs: JobQueue, job: str) -> BackfillJob:
    await until(lambda: jobs.get(job).state != "running", f"the end of job {job}")
    state = jobs.get(job)
    assert isinstance(state, BackfillJob)
    return state


async def moved(engine: Engine) -> None:
    """Attach new@1, promote it whatever it measures, and write a third of the points anew."""
    await engine.versions.attach("docs", "new@1")
    await engine.versions.promote("docs", "new@1", Gate(), force=True)
    await write(engine, range(0, 120, 3))


async def oracle(engine: Engine, text: str, asking: str, kinds: dict[str, AdapterKind]) -> list[tuple[float, str]]:
    """Every point scored by itself, its version reached as `kinds` says: (score, id), best first."""
    collection = engine.registry.get("docs")
    versions = {version.id: version for version in collection.document.versions}
    query = versions[asking]

    def embed(version: Version) -> np.ndarray:
        return collection.encoders.embedder(version).embed([text], TextKind.QUERY)

    def reached(version: Version) -> tuple[np.ndarray, float, float]:
        if version.model_fingerprint == query.model_fingerprint:
            return embed(query), 1.0, 0.0
        adapter = collection.encoders.adapters[str(query.model_fingerprint), str(version.model_fingerprint)]
        kind, own = kinds[version.id], embed(query)
        crossed = adapter.map(kind, own, embed(version))
        here, there = adapter.reference.here @ own[0], adapter.reference.there @ crossed[0]
        top = max(1, round(0.03 * len(here)))
        tail_here, tail_there = (float(np.sort(scores)[-top:].mean(dtype=np.float64)) for scores in (here, there))
        return crossed, adapter.scales[kind], tail_here - adapter.scales[kind] * tail_there

    scored = []
    page = await engine.scroll("docs", None, 1000, None)
    found = await collection.fetch([point.id for point in page.points], records=True)
    for point in found.values():
        version = collection.document.versions[point.version]
        crossed, scale, offset = reached(version)
        codec, record = collection.codec(version), np.frombuffer(point.record, np.uint8)[None]
        prepared = prepare_adc(codec.project(crossed) * np.float32(scale), version.spec, version.steps)
        codes, gains = split_records(record, version.spec)
        mean = float((crossed.astype(np.float64) * scale @ codec.mean.astype(np.float64))[0])
        scored.append((float(dot_scores(prepared, codes, gains, version.spec)[0, 0]) + offset + mean, point.id))
    return sorted(scored, key=lambda entry: (-entry[0], entry[1]))
