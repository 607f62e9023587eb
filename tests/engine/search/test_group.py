"""Groups against a slow loop: the best hits of the best groups, for random values, sizes and limits."""

import base64
from pathlib import Path

import numpy as np
import pytest
from tests.engine.running import running
from tests.engine.test_engine import codes, make, point, search

from bebr.core.types import FieldType, WriteMode
from bebr.engine import CollectionSettings


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
