"""What a backfill does to points, one page or one batch of vectors at a time."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.engine.upgrading import TEXTS, counts, moved, upgrading, write

from bebr.encoding import TextKind
from bebr.engine import Gate
from bebr.errors import (
    Incompatible,
)
from bebr.shards import Replace


async def test_a_code_that_was_made_of_another_record_is_not_taken(tmp_path: Path, bundles: Path) -> None:
    """Between the reading of a point and the write of its new code it may be written or deleted."""
    async with upgrading(tmp_path, bundles) as engine:
        await moved(engine)
        collection = engine.registry.get("docs")
        ids = collection.by_shard([f"p{n:03}" for n in range(120) if n % 3])[0][:3]
        before = await collection.fetch(ids, records=True)
        await write(engine, [int(ids[0][1:])])
        await engine.delete_points("docs", [ids[1]])
        written = (await collection.fetch(ids[:1], records=True))[ids[0]].record
        records = np.zeros((3, collection.active.spec.record_size_bytes), np.uint8)
        change = Replace(ids, collection.active.number, records, [before[point_id].record for point_id in ids])
        assert (await collection.shards.write(0, change)).applied == [False, False, True]
        after = await collection.fetch(ids, records=True)
        assert after[ids[0]].record == written and ids[1] not in after
        assert after[ids[2]].record == bytes(records[2]) and after[ids[2]].metadata == before[ids[2]].metadata


async def test_vectors_of_the_new_model_may_be_streamed(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles, text_field=None) as engine:
        await engine.versions.attach("docs", "new@1")
        await engine.versions.promote("docs", "new@1", Gate(), force=True)
        collection = engine.registry.get("docs")
        rows = collection.encoders.embedder(collection.active).embed(TEXTS[:100], TextKind.PASSAGE)
        ids = [f"p{n:03}" for n in range(99)] + ["nobody"]
        with pytest.raises(Incompatible, match="are declared as 'old@1'"):
            await engine.backfill_vectors("docs", "old@1", ids, rows)
        rows[5] = np.nan
        report = await engine.backfill_vectors("docs", "new@1", ids, rows)
        assert report.applied == 98 and [(item.index, item.error) for item in report.items] == [
            (5, "InvalidVector"),
            (99, "PointNotFound"),
        ]
        assert await counts(engine) == {"old@1": 22, "new@1": 98}
        points, _ = await engine.get_points("docs", ["p007"])
        assert json.loads(points[0].metadata or "") == {"n": 7}
