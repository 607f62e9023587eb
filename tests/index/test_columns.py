"""Columns of odd values equal the oracle, in one piece, after a file and after a merge."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.core.odd_filters import BOUNDS, FIELDS, REAL, WHOLE, random_filter, random_metadata

from bebr.core.codes import CodeSpec
from bebr.core.filters import Range, matches, parse_filter
from bebr.core.numbers import float_terms
from bebr.core.types import FieldType, Puts
from bebr.index.columns import build_column, unpack_mask
from bebr.index.shard import Shard
from bebr.shards.changes import values_of

SPEC = CodeSpec.parse("16x1")


@pytest.mark.parametrize("values", [WHOLE, REAL])
@pytest.mark.parametrize("name", ["gte", "gt", "lte", "lt", "match"])
def test_every_number_meets_every_bound(values: list[float], name: str) -> None:
    column = build_column(FieldType.INTEGER if values is WHOLE else FieldType.FLOAT, [*values, None])
    for bound in BOUNDS:
        if name == "match":
            found, expected = column.match(frozenset([bound])), [value == bound for value in values]
        else:
            condition = Range("key", column.kind, **{name: bound})
            found = column.range(condition)  # type: ignore[attr-defined]
            expected = [matches(condition, "a", {"key": value}) for value in values]
        assert found.tolist() == [*expected, False], bound


def test_terms_of_a_number_are_the_number() -> None:
    for number in [*BOUNDS, 3**600, -(7**300)]:
        assert (
            sum(map(int, float_terms(number))) == number
            if isinstance(number, int)
            else float_terms(number)[0] == number
        )


@pytest.mark.parametrize("seed", range(3))
def test_filters_over_all_kinds_of_segments_equal_the_oracle(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shard = Shard(tmp_path / "shard", {0: SPEC}, FIELDS, head_rows=32)
    shard.open()
    points: dict[str, dict[str, object]] = {}
    for step in range(12):
        ids = [f"p{n}" for n in rng.choice(120, 25, replace=False)]
        points |= (some := {i: json.loads(json.dumps(random_metadata(rng))) for i in ids})
        values = values_of([some[i] for i in ids], FIELDS)
        puts = Puts(ids, 0, np.zeros((25, SPEC.record_size_bytes), np.uint8), ["{}"] * 25)
        shard.apply([(puts, values)], [], (step + 1) * 25)
        if step % 4 == 1:
            shard.maintain()
        if step == 8:
            shard.flush()
            shard = Shard(tmp_path / "shard", {0: SPEC}, FIELDS, head_rows=32)
            shard.open()
        for _ in range(20):
            condition = parse_filter(random_filter(rng, list(points)), FIELDS)
            found: list[str] = []
            for part in shard.view.parts:
                found += part.ids_at(np.flatnonzero(unpack_mask(part.mask(condition), part.rows)).tolist())
            assert sorted(found) == sorted(i for i, metadata in points.items() if matches(condition, i, metadata))
