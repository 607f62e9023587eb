"""Searches whose candidates are scored again by rescore codes equal brute force over what the store holds, bit for bit,
beside codes that have none and points that wait for a fit."""

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
from tests.engine.search.test_versions_of_one_model import (
    Entry,
    by_version,
    entries,
    held,
    mean_product,
    no_filter,
    record_of,
    scorer_of_embedding,
)

from bebr.core.codes import CodeSpec, rescore_records, split_records
from bebr.core.scoring import Scorer, dot_scores, prepare_adc, prepare_rescore, rescore_scores
from bebr.core.types import FieldType, WriteMode
from bebr.encoding.embedding.vectors import check_embeddings
from bebr.encoding.encoder import Encoder
from bebr.engine import CollectionSettings, Engine, FitSettings, SearchRequest
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.results import Point, SearchResult
from bebr.engine.search.rescore import candidates_of
from bebr.errors import InvalidOption

ROWS = text_like(500, dims=DIMS)
FIELDS = {"n": FieldType.INTEGER, "parity": FieldType.KEYWORD, "third": FieldType.KEYWORD}
Score = Callable[[Version, np.ndarray], tuple[float, float]]
"""Version and record -> (score of the scan, finer score)."""


async def write(engine: Engine, ids: list[int], rows: np.ndarray) -> None:
    metadata = [{"n": n, "parity": "odd" if n % 2 else "even", "third": str(n % 40)} for n in ids]
    report = await engine.write_vectors("docs", [f"p{n:03}" for n in ids], rows, metadata, WriteMode.UPSERT)
    assert report.rejected == 0


@asynccontextmanager
async def mixed(folder: Path, seed: int, count: int = 260) -> AsyncIterator[Engine]:
    """Points of a fit without rescore codes, of one with them, and some buffered; many are equal."""
    rng = np.random.default_rng(seed)
    async with running(folder, head_rows=int(rng.choice([64, 4096]))) as engine:
        fit = FitSettings(8, 150, DIMS)
        settings = CollectionSettings(fit=fit, filterable=FIELDS, shards=int(rng.integers(1, 4)))
        await engine.create_collection("docs", settings)
        rows = ROWS[rng.integers(0, 200, count)]
        await write(engine, list(range(count)), rows)
        await reached(engine, "done")
        await engine.fits.request("docs", size_bytes=8, rescore_bytes=16, sample=130)
        again = rng.choice(count, 150, replace=False).tolist()
        await write(engine, again, rows[again])
        await reached(engine, "done")
        await engine.fits.request("docs", size_bytes=12, rescore_bytes=0, sample=300)
        again = rng.choice(count, 40, replace=False).tolist()
        await write(engine, again, rows[again])
        await engine.delete_points("docs", [f"p{n:03}" for n in rng.choice(count, 20).tolist()])
        yield engine


async def scored(engine: Engine, score: Score, keep: Callable[[Point], bool] = no_filter) -> list[tuple[float, Entry]]:
    """(score of the scan, entry) of all points that pass, in the order of the scan."""
    versions = {version.id: version for version in engine.registry.get("docs").document.versions}
    found = []
    for point in filter(keep, await held(engine)):
        coarse, finer = score(versions[point.version], record_of(point))
        found.append((coarse, (finer, point.id, point.version)))
    return sorted(found, key=lambda one: (-one[0], one[1][1]))


def ordered(candidates: list[tuple[float, Entry]], size: int, threshold: float = -np.inf) -> list[Entry]:
    """All hits: so many candidates at a time, each time ordered by their finer scores."""
    runs = [candidates[start : start + size] for start in range(0, len(candidates), size)]
    hits = [entry for run in runs for entry in sorted([e for _, e in run], key=lambda e: (-e[0], e[1]))]
    return [entry for entry in hits if entry[0] >= threshold]


def of_embedding(engine: Engine, embedding: np.ndarray) -> Score:
    """adc of any scan code, and adc of the rescore code where there is one."""
    coarse_of = scorer_of_embedding(engine, embedding, Scorer.ADC)
    codec_of, unit = engine.registry.get("docs").codec, check_embeddings(embedding, DIMS)

    def of_version(version: Version) -> Callable[[np.ndarray], tuple[float, float]]:
        spec, codec = version.spec, codec_of(version)
        if spec.rescore is None:
            return lambda record: (coarse_of(version, record),) * 2
        assert isinstance(codec, Encoder)
        query = prepare_rescore(codec.project_rescore(unit), spec)

        def scores(record: np.ndarray) -> tuple[float, float]:
            coarse = coarse_of(version, record)
            return coarse, coarse + float(rescore_scores(query, rescore_records(record, spec), spec)[0, 0])

        return scores

    return by_version(of_version)


def of_code(engine: Engine, version: Version, record: np.ndarray) -> Score:
    """What the finest code represents, projected into every version, for both of its codes."""
    codec_of = engine.registry.get("docs").codec
    embedding = codec_of(version).decode(record)
    length = np.float32(np.linalg.norm(embedding))

    def of_version(other: Version) -> Callable[[np.ndarray], tuple[float, float]]:
        codec, spec = codec_of(other), other.spec
        query = prepare_adc(codec.project(embedding / length) * length, spec, other.steps)
        mean, finer = mean_product(embedding, codec.mean), None
        if spec.rescore is not None and isinstance(codec, Encoder):
            finer = prepare_rescore(codec.project_rescore(embedding / length) * length, spec)

        def scores(target: np.ndarray) -> tuple[float, float]:
            coarse = float(dot_scores(query, *split_records(target, spec), spec)[0, 0]) + mean
            if finer is None:
                return coarse, coarse
            return coarse, coarse + float(rescore_scores(finer, rescore_records(target, spec), spec)[0, 0])

        return scores

    return by_version(of_version)


async def search(engine: Engine, **options: Any) -> SearchResult:
    (result,) = await engine.search("docs", [SearchRequest(**options)])
    return result


@pytest.mark.parametrize("seed", range(3))
async def test_vectors_equal_brute_force(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    condition = {"must": [{"key": "parity", "match": {"value": "odd"}}]}

    def is_odd(point: Point) -> bool:
        return json.loads(point.metadata or "")["parity"] == "odd"

    async with mixed(tmp_path, seed) as engine:
        totals = (await engine.describe_collection("docs")).points
        assert len(totals) == 3
        for filter, keep in ((None, no_filter), (condition, is_odd)):
            row, limit = text_like(1, seed=int(rng.integers(1000)), dims=DIMS), int(rng.integers(1, 30))
            candidates = await scored(engine, of_embedding(engine, row), keep)
            size = max(limit, int(rng.choice([5, 20, 60])))
            options = {"vector": row[0], "limit": limit, "filter": filter, "candidates": size}
            result = await search(engine, **options)
            assert entries(result) == ordered(candidates, size)[:limit] and result.searched == totals
            assert entries(await search(engine, **options, offset=70)) == ordered(candidates, size)[70 : 70 + limit]

            threshold = candidates[len(candidates) // 3][1][0]
            wide = options | {"limit": 200, "candidates": 200, "score_threshold": threshold}
            assert entries(await search(engine, **wide)) == ordered(candidates, 200, threshold)[:200]
            coarse = sorted([(-score, e[1]) for score, e in candidates])
            plain = await search(engine, **(options | {"candidates": None}), rescore=False)
            assert [(-hit.score, hit.id) for hit in plain.hits] == coarse[:limit]


@pytest.mark.parametrize("seed", range(2))
async def test_codes_and_ids_equal_brute_force(tmp_path: Path, seed: int) -> None:
    async with mixed(tmp_path, seed + 10) as engine:
        versions = {version.id: version for version in engine.registry.get("docs").document.versions}
        points = {point.version: point for point in await held(engine)}
        assert len(points) == 3
        for version_id, point in points.items():
            version = versions[version_id]
            if version.kind is VersionKind.FITTED:
                expected = ordered(await scored(engine, of_code(engine, version, record_of(point))), 50)[:10]
                options = {"limit": 10, "candidates": 50}
                assert _near(entries(await search(engine, id=point.id, **options)), expected, version)
                code = record_of(point).tobytes()
                assert _near(entries(await search(engine, code=code, version=version_id, **options)), expected, version)


def _near(found: list[Entry], expected: list[Entry], version: Version) -> bool:
    """The same hits; where the query's own version has no rescore code, its projection rounds in another order."""
    scores = [entry[0] for entry in found], [entry[0] for entry in expected]
    return [e[1:] for e in found] == [e[1:] for e in expected] and (
        scores[0] == scores[1] or (version.spec.rescore is None and np.allclose(*scores, atol=1e-6))
    )


async def test_pages_have_one_order_and_are_explained(tmp_path: Path) -> None:
    async with mixed(tmp_path, 1) as engine:
        row = text_like(1, seed=9, dims=DIMS)
        candidates = await scored(engine, of_embedding(engine, row))
        document = engine.registry.get("docs").document
        (finer,) = (version for version in document.versions if version.spec.rescore is not None)
        for limit, given in ((9, None), (9, 40), (30, None), (30, 7)):
            expected_size = given or candidates_of(finer) * max(limit, 10) // 10
            pages: list[Entry] = []
            cursor = None
            while True:
                page = await search(engine, vector=row[0], limit=limit, cursor=cursor, candidates=given, explain=True)
                pages += entries(page)
                assert page.explain is not None and page.explain.rescore is not None
                assert page.explain.rescore.candidates == max(expected_size, limit)
                assert page.explain.rescore.rows_read <= 2 * max(expected_size, limit) + limit
                if (cursor := page.cursor) is None:
                    break
            assert pages == ordered(candidates, max(expected_size, limit))
        plain = await search(engine, vector=row[0], rescore=False, explain=True)
        assert plain.explain is not None and plain.explain.rescore is None


async def test_groups_are_chosen_and_ordered_by_finer_scores(tmp_path: Path) -> None:
    async with mixed(tmp_path, 2) as engine:
        row = text_like(1, seed=4, dims=DIMS)
        metadata = {point.id: json.loads(point.metadata or "") for point in await held(engine)}
        candidates = await scored(engine, of_embedding(engine, row))
        for limit, size, groups in ((3, 1, 6), (2, 3, 4), (5, 2, 1000)):
            kept: dict[Any, list[Entry]] = {}
            for _, entry in candidates:
                value = metadata[entry[1]]["n"] % 40
                kept.setdefault(value, []).append(entry)
            looked_at = dict(list(kept.items())[:groups])
            best = sorted([(-e[0], e[1], value) for value, some in looked_at.items() for e in some[: 2 * size + 2]])
            taken: dict[Any, list[str]] = {}
            for _, point_id, value in best:
                if (value in taken or len(taken) < limit) and len(taken.setdefault(value, [])) < size:
                    taken[value].append(point_id)
            found = await search(
                engine, vector=row[0], limit=limit, group_by="third", group_size=size, candidates=groups, explain=True
            )
            by_group: dict[Any, list[str]] = {}
            for hit in found.hits:
                by_group.setdefault(metadata[hit.id]["n"] % 40, []).append(hit.id)
            assert by_group == taken and list(by_group) == list(taken)
            assert found.explain is not None and found.explain.rescore is not None
            assert found.explain.rescore.candidates == groups
            scores = [hit.score for hit in found.hits]
            assert scores == sorted(scores, reverse=True)
            floor = scores[len(scores) // 2]
            some = await search(
                engine, vector=row[0], limit=limit, group_by="third", group_size=size, candidates=groups,
                score_threshold=floor,
            )  # fmt: skip
            assert [hit.id for hit in some.hits] == [hit.id for hit in found.hits if hit.score >= floor]


async def test_searches_of_all_kinds_share_scans(tmp_path: Path) -> None:
    async with mixed(tmp_path, 3) as engine:
        ids = [point.id for point in (await held(engine))[:10]]
        requests = [SearchRequest(id=point_id, limit=7) for point_id in ids]
        requests += [SearchRequest(vector=row, limit=7, candidates=n + 7) for n, row in enumerate(ROWS[:10])]
        requests += [SearchRequest(vector=row, limit=7, rescore=False) for row in ROWS[:10]]
        requests += [SearchRequest(vector=row, limit=7, scorer=Scorer.SDC) for row in ROWS[:10]]
        requests += [SearchRequest(vector=row, limit=7, offset=30, score_threshold=0.1) for row in ROWS[:10]]
        alone = [entries((await engine.search("docs", [request]))[0]) for request in requests]
        assert [entries(result) for result in await engine.search("docs", requests)] == alone
        at_once = await asyncio.gather(*(engine.search("docs", [request]) for request in requests))
        assert [entries(result) for (result,) in at_once] == alone


async def test_what_cannot_be_rescored_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await engine.create_collection("raw", CollectionSettings(code="64x1"))
        for options in ({"rescore": True}, {"rescore": True, "candidates": 50}):
            with pytest.raises(InvalidOption, match="no code version that is searched has rescore codes"):
                await engine.search("raw", [SearchRequest(code=bytes(8), **options)])
        assert (await engine.search("raw", [SearchRequest(code=bytes(8), rescore=False)]))[0].hits == []
        fit = FitSettings(bytes=8, rescore_bytes=16, sample=130, dims=DIMS)
        await engine.create_collection("docs", CollectionSettings(fit=fit, filterable=FIELDS))
        await write(engine, list(range(100)), ROWS[:100])
        planned = await search(engine, vector=ROWS[0], rescore=True, explain=True)
        assert planned.explain is not None and planned.explain.rescore is None and len(planned.hits) == 10
        await write(engine, list(range(100, 200)), ROWS[100:200])
        await reached(engine, "done")
        assert (await search(engine, vector=ROWS[0], scorer=Scorer.HAMMING)).hits
        with pytest.raises(InvalidOption, match="'hamming' compares the signs") as raised:
            await search(engine, vector=ROWS[0], scorer=Scorer.HAMMING, rescore=True)
        assert raised.value.fields["key"] == "rescore"
        for wrong in (0, -1, 10_001):
            with pytest.raises(InvalidOption, match=r"rescore\.candidates must be 1 to 10000"):
                await search(engine, vector=ROWS[0], rescore=True, candidates=wrong)
        assert entries(await search(engine, vector=ROWS[0], rescore=True, candidates=10_000))


def test_candidates_follow_the_measurement_or_the_size_of_the_scan_code() -> None:
    def version(code: str, **metrics: Any) -> Version:
        spec = CodeSpec.parse(code)
        steps = np.ones(len(spec.blocks), np.float32)
        return Version(number=0, id="a@1", kind=VersionKind.FITTED, spec=spec, steps=steps, metrics=metrics)

    sizes = {"256x1": 200, "256x2": 50, "384x4": 20, "8x1": 1000}
    assert {code: candidates_of(version(f"{code}/8x8")) for code in sizes} == sizes
    assert candidates_of(version("256x2/8x8", candidates=30)) == 30


async def test_finer_scores_find_more(tmp_path: Path) -> None:
    rows = text_like(900, dims=DIMS)
    queries = text_like(40, seed=5, dims=DIMS)
    async with running(tmp_path) as engine:
        fit = FitSettings(bytes=8, rescore_bytes=24, sample=300, dims=DIMS)
        await engine.create_collection("docs", CollectionSettings(fit=fit, filterable=FIELDS))
        await write(engine, list(range(900)), rows)
        await reached(engine, "done")
        found = {}
        for rescore in (True, False):
            results = await engine.search("docs", [SearchRequest(vector=row, rescore=rescore) for row in queries])
            truth = [np.argsort(-(rows @ row), kind="stable")[:10] for row in queries]
            hits = [len({f"p{n:03}" for n in t} & {h.id for h in r.hits}) for t, r in zip(truth, results, strict=True)]
            found[rescore] = sum(hits) / 400
        assert found[True] > 0.93 and found[False] < found[True] - 0.1, found


async def test_many_candidates_of_many_searches_are_not_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with mixed(tmp_path, 4) as engine:
        requests = [SearchRequest(vector=row, limit=5, candidates=40, explain=True) for row in ROWS[:6]]
        together = await engine.search("docs", requests)
        assert len(set(_times(together))) == 1, "one scan tells one time"
        monkeypatch.setattr("bebr.engine.search.search.MAX_RESCORED", 100)
        apart = await engine.search("docs", requests)
        assert list(map(entries, apart)) == list(map(entries, together))
        times = _times(apart)
        assert times[::2] == times[1::2], "two searches with 40 candidates each at a time"
        assert len(set(times)) > 1, "one after the other; two may take equally long"


def _times(results: list[SearchResult]) -> list[float]:
    """Of each search, how long it took to score the candidates of all that were found with it."""
    return [result.explain.rescore.ms for result in results if result.explain and result.explain.rescore]
