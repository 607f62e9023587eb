"""A search over several code versions of one model equals brute force over what the store holds, bit for bit."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.encoding.quantization.embeddings import text_like
from tests.engine.fitting import DIMS, reached
from tests.engine.running import running

from bebr.core.codes import CodeSpec, split_records
from bebr.core.scoring import (
    Scorer,
    dot_scores,
    hamming_distances,
    hamming_scores,
    prepare_adc,
    prepare_hamming,
)
from bebr.core.types import FieldType, WriteMode
from bebr.encoding import BinarizerFiles, write_bundle
from bebr.encoding.embedding.vectors import check_embeddings
from bebr.encoding.quantization.recurrent_fit import fit_recurrent
from bebr.encoding.quantization.recurrent_graph import to_onnx
from bebr.engine import CollectionSettings, Engine, FitSettings, SearchRequest
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.results import Point
from bebr.errors import Incompatible, InvalidOption

ROWS = text_like(500, dims=DIMS)
FIELDS = {"n": FieldType.INTEGER, "parity": FieldType.KEYWORD}
Entry = tuple[float, str, str]
"""(score, id, version)"""


async def write(engine: Engine, ids: list[int], rows: np.ndarray) -> None:
    metadata = [{"n": n, "parity": "odd" if n % 2 else "even"} for n in ids]
    report = await engine.write_vectors("docs", [f"p{n:03}" for n in ids], rows, metadata, WriteMode.UPSERT)
    assert report.rejected == 0


@asynccontextmanager
async def mixed(folder: Path, seed: int, buffered: bool) -> AsyncIterator[Engine]:
    """A collection of random size: points of two own versions, and some buffered; a few are deleted, many are equal."""
    rng = np.random.default_rng(seed)
    shards, count = int(rng.integers(1, 4)), int(rng.integers(180, 400))
    async with running(folder, head_rows=int(rng.choice([64, 100, 4096]))) as engine:
        fit = FitSettings(8, 150, DIMS)
        await engine.create_collection("docs", CollectionSettings(fit=fit, filterable=FIELDS, shards=shards))
        rows = ROWS[rng.integers(0, 150, count)]  # many of them are equal
        await write(engine, list(range(count)), rows)
        await reached(engine, "done")
        await engine.fits.request("docs", size_bytes=12, sample=130)
        again = rng.choice(count, 150, replace=False).tolist()
        await write(engine, again, rows[again])
        await reached(engine, "done")
        if buffered:
            await engine.fits.request("docs", size_bytes=16, sample=300)
            again = rng.choice(count, 40, replace=False).tolist()
            await write(engine, again, rows[again])
        await engine.delete_points("docs", [f"p{n:03}" for n in rng.choice(count, 20).tolist()])
        yield engine


async def held(engine: Engine) -> list[Point]:
    page = await engine.scroll("docs", None, 1000, None)
    points, _ = await engine.get_points("docs", [point.id for point in page.points], with_code=True)
    return points


def record_of(point: Point) -> np.ndarray:
    assert point.code is not None
    return np.frombuffer(point.code, np.uint8)[None]


async def oracle(
    engine: Engine, score: Callable[[Version, np.ndarray], float], keep: Callable[[dict[str, Any]], bool]
) -> list[Entry]:
    """All points that `keep` lets pass, best first, scored version by version."""
    versions = {version.id: version for version in engine.registry.get("docs").document.versions}
    found: list[Entry] = []
    for point in filter(keep, await held(engine)):
        value = float(score(versions[point.version], record_of(point)))
        found.append((value, point.id, point.version))
    return sorted(found, key=lambda entry: (-entry[0], entry[1]))


def scorer_of_embedding(
    engine: Engine, embedding: np.ndarray, scorer: Scorer
) -> Callable[[Version, np.ndarray], float]:
    """How the embedding of a query is compared with a record of any version."""
    collection, embedding = engine.registry.get("docs"), check_embeddings(embedding, DIMS)

    def of_version(version: Version) -> Callable[[np.ndarray], float]:
        codec, spec = collection.codec(version), version.spec
        if scorer is Scorer.ADC:
            query, mean = (
                prepare_adc(codec.project(embedding), spec, version.steps),
                mean_product(embedding, codec.mean),
            )
            return lambda record: float(dot_scores(query, *split_records(record, spec), spec)[0, 0]) + mean
        if scorer is Scorer.SDC:
            score = scorer_of_code(engine, version, codec.encode(embedding))
            return lambda record: score(version, record)
        signs = prepare_hamming(split_records(codec.encode(embedding), spec)[0])

        def hamming(record: np.ndarray) -> float:
            distances = hamming_distances(signs, split_records(record, spec)[0], spec)
            return float(hamming_scores(distances, spec.dims)[0, 0])

        return hamming

    return by_version(of_version)


def by_version(prepare: Callable[[Version], Callable[[np.ndarray], Any]]) -> Callable[[Version, np.ndarray], Any]:
    """The query is prepared once for each version."""
    prepared: dict[int, Callable[[np.ndarray], Any]] = {}

    def score(version: Version, record: np.ndarray) -> Any:
        if version.number not in prepared:
            prepared[version.number] = prepare(version)
        return prepared[version.number](record)

    return score


def scorer_of_code(engine: Engine, version: Version, record: np.ndarray) -> Callable[[Version, np.ndarray], float]:
    """A code against several versions: what it represents is projected into each."""
    collection = engine.registry.get("docs")
    embedding = collection.codec(version).decode(record)
    length = np.float32(np.linalg.norm(embedding))

    def of_version(other: Version) -> Callable[[np.ndarray], float]:
        codec, spec = collection.codec(other), other.spec
        projected = codec.project(embedding / length) * length
        if other.number == version.number:
            own = codec.code_query(record)
            np.testing.assert_allclose(own, projected, atol=1e-5)
            projected = own  # the same but for the order of rounding
        query, mean = prepare_adc(projected, spec, other.steps), mean_product(embedding, codec.mean)
        return lambda target: float(dot_scores(query, *split_records(target, spec), spec)[0, 0]) + mean

    return by_version(of_version)


def mean_product(embedding: np.ndarray, mean: np.ndarray) -> float:
    return float((embedding.astype(np.float64) @ mean.astype(np.float64))[0])


def entries(result: Any) -> list[Entry]:
    return [(hit.score, hit.id, hit.version) for hit in result.hits]


def no_filter(point: Point) -> bool:
    return True


@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize("seed", range(4))
async def test_vectors_equal_brute_force(tmp_path: Path, seed: int, buffered: bool) -> None:
    rng = np.random.default_rng(seed)
    condition = {"must": [{"key": "parity", "match": {"value": "odd"}}, {"key": "n", "range": {"lt": 150}}]}

    def keep(point: Point) -> bool:
        return json.loads(point.metadata or "")["parity"] == "odd" and json.loads(point.metadata or "")["n"] < 150

    async with mixed(tmp_path, seed, buffered) as engine:
        totals = (await engine.describe_collection("docs")).points
        assert len(totals) == 2 + buffered
        for scorer in Scorer:
            if scorer is Scorer.HAMMING and buffered:
                continue
            for filter, passes in ((None, no_filter), (condition, keep)):
                row, limit = text_like(1, seed=int(rng.integers(1000)), dims=DIMS), int(rng.integers(1, 60))
                expected = await oracle(engine, scorer_of_embedding(engine, row, scorer), passes)
                request = SearchRequest(vector=row[0], limit=limit, scorer=scorer, filter=filter)
                (result,) = await engine.search("docs", [request])
                assert entries(result) == expected[:limit] and result.searched == totals
                threshold = expected[len(expected) // 2][0] - (1e-6 if scorer is Scorer.HAMMING else 0)
                request = SearchRequest(
                    vector=row[0], limit=1000, scorer=scorer, filter=filter, score_threshold=threshold
                )
                (result,) = await engine.search("docs", [request])
                assert entries(result) == [entry for entry in expected if entry[0] >= threshold]


@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize("seed", range(3))
async def test_codes_and_ids_equal_brute_force(tmp_path: Path, seed: int, buffered: bool) -> None:
    rng = np.random.default_rng(seed + 100)
    async with mixed(tmp_path, seed, buffered) as engine:
        points = await held(engine)
        versions = {version.id: version for version in engine.registry.get("docs").document.versions}
        for place in rng.choice(len(points), 12, replace=False).tolist():
            point, limit = points[place], int(rng.integers(1, 80))
            version = versions[point.version]
            expected = await oracle(engine, scorer_of_code(engine, version, record_of(point)), no_filter)
            code = record_of(point).tobytes()
            requests = [
                SearchRequest(id=point.id, limit=limit),
                SearchRequest(code=code, version=version.id, limit=limit),
            ]
            for result in await engine.search("docs", requests):
                assert entries(result) == expected[:limit] and result.query_version == version.id


async def test_pages_and_groups_run_over_all_versions(tmp_path: Path) -> None:
    async with mixed(tmp_path, 1, True) as engine:
        row = text_like(1, seed=9, dims=DIMS)
        expected = await oracle(engine, scorer_of_embedding(engine, row, Scorer.ADC), no_filter)
        seen: list[Entry] = []
        cursor = None
        while True:
            (page,) = await engine.search("docs", [SearchRequest(vector=row[0], limit=37, cursor=cursor)])
            seen += entries(page)
            if (cursor := page.cursor) is None:
                break
        assert seen == expected
        request = SearchRequest(vector=row[0], limit=2, group_by="parity", group_size=3)
        (result,) = await engine.search("docs", [request])
        parities = [json.loads(hit.metadata or "")["parity"] for hit in result.hits]
        assert sorted(parities) == ["even"] * 3 + ["odd"] * 3
        odd = [entry for entry in expected if int(entry[1][1:]) % 2]
        assert [e for e, parity in zip(entries(result), parities, strict=True) if parity == "odd"] == odd[:3]


async def test_searches_of_all_kinds_share_scans(tmp_path: Path) -> None:
    async with mixed(tmp_path, 2, True) as engine:
        points = await held(engine)
        requests = [SearchRequest(id=point.id, limit=7) for point in points[:30]]
        requests += [SearchRequest(vector=row, limit=7, scorer=Scorer.SDC) for row in ROWS[:30]]
        requests += [SearchRequest(vector=row, limit=7, with_code=True) for row in ROWS[:30]]
        alone = [entries((await engine.search("docs", [request]))[0]) for request in requests]
        together = await engine.search("docs", requests)
        assert [entries(result) for result in together] == alone
        searcher = engine.searchers.of(engine.registry.get("docs"))
        routed = [await searcher._route([request]) for request in requests]
        queued = await asyncio.gather(*(searcher._queue.submit(one, alone=False) for one in routed))
        found = [outcome[0][0].found for outcome in queued if isinstance(outcome, tuple)]
        assert [list(zip(f.scores, f.ids, strict=True)) for f in found] == [[entry[:2] for entry in e] for e in alone]
        codes = {point.id: point.code for point in points}
        assert all(hit.code == codes[hit.id] for result in together[60:] for hit in result.hits)


async def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    async with mixed(tmp_path, 3, True) as engine:
        with pytest.raises(Incompatible, match="buffered as embeddings"):
            await engine.search("docs", [SearchRequest(vector=ROWS[0], scorer=Scorer.HAMMING)])
        with pytest.raises(InvalidOption, match="'buffered'") as raised:
            await engine.search("docs", [SearchRequest(vector=ROWS[0], version="own@9")])
        assert raised.value.fields["key"] == "version"


async def test_a_code_is_of_the_newest_version_unless_it_says_which(tmp_path: Path) -> None:
    async with mixed(tmp_path, 3, True) as engine:
        first, second = (v for v in engine.registry.get("docs").document.versions if v.kind is not VersionKind.BUFFERED)
        points = {point.version: point for point in await held(engine)}
        code = record_of(points[second.id]).tobytes()
        (result,) = await engine.search("docs", [SearchRequest(code=code)])
        assert result.query_version == second.id
        old = record_of(points[first.id]).tobytes()
        (result,) = await engine.search("docs", [SearchRequest(code=old, version=first.id, limit=200)])
        assert points[first.id].id in [hit.id for hit in result.hits[:20]]


@asynccontextmanager
async def centered(folder: Path) -> AsyncIterator[tuple[Engine, np.ndarray]]:
    """300 points that share a strong mean: half of them codes of a centered bundle, half buffered for a refit."""
    rows = text_like(300, dims=DIMS, common_mean=3)
    fitted = fit_recurrent(rows, CodeSpec.parse("32x2"), center=True, weight=0.5)
    files = BinarizerFiles(to_onnx(fitted), fitted.spec, fitted.steps, fitted.gain)
    write_bundle(folder / "bundles", "centered", "1", embedding_dims=DIMS, binarizer=files)
    async with running(folder) as engine:
        await engine.create_collection("docs", CollectionSettings(bundle="centered@1", filterable=FIELDS, shards=2))
        await write(engine, list(range(300)), rows)
        await engine.fits.request("docs", size_bytes=16, sample=300)
        await write(engine, list(range(0, 300, 2)), rows[::2])
        yield engine, rows


async def test_versions_of_centered_codes_share_one_scale(tmp_path: Path) -> None:
    """A scan leaves out what the mean of centered codes gives; beside buffered points it must be there again."""
    queries = text_like(20, seed=1, dims=DIMS, common_mean=3)
    found = []
    async with centered(tmp_path) as (engine, rows):
        for row in queries:
            for scorer in (Scorer.ADC, Scorer.SDC):
                expected = await oracle(engine, scorer_of_embedding(engine, row[None], scorer), no_filter)
                floor = expected[30][0]
                request = SearchRequest(vector=row, limit=100, scorer=scorer, score_threshold=floor)
                (result,) = await engine.search("docs", [request])
                wanted = [entry for entry in expected if entry[0] >= floor][:100]
                assert [entry[1:] for entry in entries(result)] == [entry[1:] for entry in wanted]
                np.testing.assert_allclose([hit.score for hit in result.hits], [score for score, _, _ in wanted])
            adc = await oracle(engine, scorer_of_embedding(engine, row[None], Scorer.ADC), no_filter)
            exact = rows @ row
            errors = [score - exact[int(point_id[1:])] for score, point_id, _ in adc]
            assert np.abs(errors).max() < 0.05  # all estimate one cosine
            nearest = {f"p{n:03}" for n in np.argsort(-exact)[:10]}
            found.append(len(nearest & {point_id for _, point_id, _ in adc[:10]}) / 10)
        assert np.mean(found) > 0.75
        for point in (await held(engine))[:6]:
            version = {v.id: v for v in engine.registry.get("docs").document.versions}[point.version]
            expected = await oracle(engine, scorer_of_code(engine, version, record_of(point)), no_filter)
            (result,) = await engine.search("docs", [SearchRequest(id=point.id, limit=40)])
            assert [point_id for _, point_id, _ in entries(result)] == [point_id for _, point_id, _ in expected[:40]]
