"""Groups against a slow loop: the best hits of the best groups, for random values, sizes and limits."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.core.odd_filters import FIELDS, random_filter, random_metadata
from tests.engine.running import running
from tests.engine.search.test_versions_of_one_model import ROWS, mixed
from tests.engine.test_engine import codes, make, point, search

from bebr.core.scoring import Scorer
from bebr.core.types import FieldType, Hit, WriteMode, column_value, field_value
from bebr.engine import CollectionSettings, SearchRequest
from bebr.errors import InvalidOption


def slowly_grouped(ranked: Sequence[Hit], values: Mapping[str, Any], limit: int, size: int) -> list[Hit]:
    """Of all hits, best first, those of the best groups. values: by id; a list is several."""
    groups: dict[Any, list[str]] = {}
    for hit in ranked:
        value = values[hit.id]
        for one in dict.fromkeys(value if isinstance(value, list) else [value]):
            if one is not None:
                groups.setdefault(one, []).append(hit.id)
    chosen = {point_id for members in list(groups.values())[:limit] for point_id in members[:size]}
    return [hit for hit in ranked if hit.id in chosen]


@pytest.mark.parametrize("seed", range(3))
async def test_groups_of_every_type_are_those_of_a_slow_loop(tmp_path: Path, seed: int) -> None:
    """Many ties, growing and sealed segments, deleted points, several shards, filters, thresholds, restarts."""
    rng = np.random.default_rng(seed)
    distinct = codes(25, seed)
    held: dict[str, dict[str, Any]] = {}
    for start in range(2):
        async with running(tmp_path, head_rows=int(rng.choice([32, 100, 4096]))) as engine:
            if start == 0:
                shards = int(rng.integers(1, 4))
                await engine.create_collection(
                    "docs", CollectionSettings(code="24x2", filterable=FIELDS, shards=shards)
                )
            for _ in range(2):
                numbers = rng.choice(400, 150, replace=False).tolist()
                body = [point(n, distinct[n % 25], **random_metadata(rng)) for n in numbers]
                assert (await engine.write_points("docs", body, WriteMode.UPSERT)).applied == 150
                held |= {one["id"]: one["metadata"] for one in body}
                gone = [str(i) for i in rng.choice(list(held), 20, replace=False)]
                await engine.delete_points("docs", gone)
                held = {i: metadata for i, metadata in held.items() if i not in gone}
            for _ in range(30):
                key = str(rng.choice(list(FIELDS)))
                options: dict[str, Any] = {"scorer": rng.choice([Scorer.SDC, Scorer.HAMMING])}
                options["filter"] = random_filter(rng, list(held)) if rng.random() < 0.4 else None
                options["score_threshold"] = float(rng.normal(0, 0.3)) if rng.random() < 0.4 else None
                query = distinct[int(rng.integers(25))]
                ranked = (await search(engine, query, limit=1000, **options)).hits
                limit, size = int(rng.integers(1, 8)), int(rng.choice([1, 1, 2, 5, 40]))
                found = await search(engine, query, limit=limit, group_by=key, group_size=size, **options)
                values = {i: column_value(field_value(metadata, key), FIELDS[key]) for i, metadata in held.items()}
                assert found.hits == slowly_grouped(ranked, values, limit, size), (key, limit, size, options)
                assert found.cursor is None and sum(found.searched.values()) == len(held)


async def test_groups_run_over_all_versions(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    async with mixed(tmp_path, 3, True) as engine:
        for row in ROWS[:8]:
            scorer = Scorer(rng.choice(["adc", "sdc"]))
            (ranked,) = await engine.search("docs", [SearchRequest(vector=row, limit=1000, scorer=scorer)])
            assert len({hit.version for hit in ranked.hits}) > 1
            values = {hit.id: json.loads(hit.metadata or "{}").get("parity") for hit in ranked.hits}
            floor = ranked.hits[len(ranked.hits) // 3].score
            for size, threshold in ((1, None), (3, None), (50, floor)):
                request = SearchRequest(
                    vector=row, limit=2, scorer=scorer, group_by="parity", group_size=size, score_threshold=threshold
                )
                (found,) = await engine.search("docs", [request])
                kept = [hit for hit in ranked.hits if threshold is None or hit.score >= threshold]
                assert found.hits == slowly_grouped(kept, values, 2, size)


async def test_a_group_behind_thousands_of_another_is_found(tmp_path: Path) -> None:
    """Also behind thousands of points that are in no group."""
    async with running(tmp_path, head_rows=4096) as engine:
        await engine.create_collection("docs", CollectionSettings(code="8x1", filterable={"g": FieldType.KEYWORD}))
        near, far = base64.b64encode(b"\x00").decode(), base64.b64encode(b"\xff").decode()
        for group in ({"g": "A"}, {}):
            body = [{"id": f"a{n}", "code_b64": near, "metadata": group} for n in range(10_000)]
            body.append({"id": "b", "code_b64": far, "metadata": {"g": "B"}})
            for start in range(0, len(body), 5000):
                await engine.write_points("docs", body[start : start + 5000], WriteMode.UPSERT)
            for scorer in (Scorer.SDC, Scorer.HAMMING):
                for size in (1, 3):
                    request = SearchRequest(code=b"\x00", limit=2, scorer=scorer, group_by="g", group_size=size)
                    (found,) = await engine.search("docs", [request])
                    of_a = ["a0", "a1", "a10"][:size] if group else []
                    assert [hit.id for hit in found.hits] == [*of_a, "b"]


async def test_an_answer_of_groups_has_a_size(tmp_path: Path) -> None:
    async with running(tmp_path, max_limit=100) as engine:
        await make(engine)
        assert (await search(engine, codes(1)[0], limit=10, group_by="lang", group_size=10)).hits == []
        with pytest.raises(InvalidOption, match="limit \\* group_size is at most 100"):
            await search(engine, codes(1)[0], limit=11, group_by="lang", group_size=10)


@pytest.mark.parametrize("seed", range(4))
async def test_groups_are_those_of_a_slow_loop(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = codes(250, seed)
    values = rng.choice(["a", "b", "c", "d", None], 250, p=[0.6, 0.2, 0.1, 0.05, 0.05]).tolist()
    async with running(tmp_path) as engine:
        await make(engine)
        body = [point(n, data[n], lang=values[n]) for n in range(250)]
        assert (await engine.write_points("docs", body, WriteMode.UPSERT)).applied == 250
        for query in range(6):
            ranked = (await search(engine, data[query], limit=250)).hits
            size, limit = int(rng.integers(1, 5)), int(rng.integers(1, 6))
            groups: dict[str, list[str]] = {}
            for hit in ranked:
                if (value := values[int(hit.id[1:])]) is not None:
                    groups.setdefault(value, []).append(hit.id)
            chosen = {hit for members in list(groups.values())[:limit] for hit in members[:size]}
            found = await search(engine, data[query], limit=limit, group_by="lang", group_size=size)
            assert [hit.id for hit in found.hits] == [hit.id for hit in ranked if hit.id in chosen]


async def test_a_point_of_two_groups_is_one_hit(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        fields = {"tags": FieldType.KEYWORDS}
        await engine.create_collection("docs", CollectionSettings(code="24x2", filterable=fields))
        data = codes(3)
        body = [
            {"id": f"p{n}", "code_b64": base64.b64encode(data[n].tobytes()).decode(), "metadata": {"tags": tags}}
            for n, tags in enumerate([["x", "y"], ["x"], ["z"]])
        ]
        await engine.write_points("docs", body, WriteMode.UPSERT)
        found = await search(engine, data[0], limit=3, group_by="tags")
        assert sorted(hit.id for hit in found.hits) == ["p0", "p2"]
