"""After a fit only the codes that it made are in memory, however small the shards are."""

from pathlib import Path

import pytest
from tests.engine.fitting import make, reached, write
from tests.engine.running import running

POINTS = 500


@pytest.mark.parametrize("shards", [1, 8])
async def test_no_buffered_row_is_left_after_a_fit(tmp_path: Path, shards: int) -> None:
    """The growing segments never fill here, so that nothing else would make them anew."""
    async with running(tmp_path, head_rows=8192) as engine:
        collection = await make(engine, shards=shards)
        await write(engine, range(POINTS))
        fit = await reached(engine, "done")
        described = await engine.describe_collection("docs")
        assert described.points == {fit.version: POINTS}
        assert described.memory_bytes == POINTS * collection.active.spec.record_size_bytes
