"""A batch goes to its shards, each in as few commits as the limits of one allow."""

from pathlib import Path

import pytest
from tests.engine.running import running
from tests.engine.test_engine import codes, point

from bebr.core import operations
from bebr.core.types import WriteMode
from bebr.engine import CollectionSettings
from bebr.errors import PayloadTooLarge


async def test_a_point_too_large_for_any_commit_stops_its_batch_before_anything_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, head_rows=8192) as engine:
        await engine.create_collection("docs", CollectionSettings(code="24x2", shards=2))
        points = [point(n, code, text="x" * (60 if n else 6000)) for n, code in enumerate(codes(200))]
        monkeypatch.setattr(operations, "MAX_COMMIT_BYTES", 4000)
        monkeypatch.setattr(operations, "MAX_POINT_BYTES", 5000)
        with pytest.raises(PayloadTooLarge, match="send fewer points at once"):
            await engine.write_points("docs", points, WriteMode.UPSERT)
        assert await engine.count("docs", None) == 0
        assert (await engine.write_points("docs", points[1:], WriteMode.UPSERT)).applied == 199
        assert await engine.count("docs", None) == 199
