"""A batch goes to its shards whole; one that is too large for a single commit does nothing at all."""

from pathlib import Path

import pytest
from tests.engine.running import running
from tests.engine.test_engine import codes, point

from bebr.core import operations
from bebr.core.types import WriteMode
from bebr.engine import CollectionSettings
from bebr.errors import PayloadTooLarge


@pytest.mark.parametrize(("limit", "value"), [("MAX_COMMIT_OPERATIONS", 40), ("MAX_COMMIT_BYTES", 4000)])
async def test_a_batch_too_large_for_one_commit_of_a_shard_does_nothing(
    tmp_path: Path, limit: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, head_rows=8192) as engine:
        await engine.create_collection("docs", CollectionSettings(code="24x2", shards=2))
        points = [point(n, code, text="x" * 60) for n, code in enumerate(codes(200))]
        monkeypatch.setattr(operations, limit, value)
        with pytest.raises(PayloadTooLarge, match="send fewer points at once"):
            await engine.write_points("docs", points, WriteMode.UPSERT)
        assert await engine.count("docs", None) == 0
        for start in range(0, 200, 20):
            report = await engine.write_points("docs", points[start : start + 20], WriteMode.UPSERT)
            assert report.applied == 20
        assert await engine.count("docs", None) == 200
