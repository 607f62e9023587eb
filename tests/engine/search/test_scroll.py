"""Reading points while the collection gets another code version."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.engine.fitting import make, reached, write
from tests.engine.running import running

from bebr.core.types import StoredPoint
from bebr.engine import Engine


@pytest.fixture
async def changing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A collection that gets a version, and a point of it, whenever points are read."""
    async with running(tmp_path) as engine:
        collection = await make(engine)
        await write(engine, range(330))
        await reached(engine, "done")
        fetch, asked = collection.fetch, False

        async def late(ids: Sequence[str], **options: Any) -> dict[str, StoredPoint]:
            nonlocal asked
            if not asked:
                asked = True
                await engine.fits.request("docs")
                await write(engine, range(2))
            return await fetch(ids, **options)

        monkeypatch.setattr(collection, "fetch", late)
        yield engine


async def test_a_scroll_shows_points_of_a_version_that_came_meanwhile(changing: Engine) -> None:
    page = await changing.scroll("docs", None, 10, None)
    assert len({point.version for point in page.points[:2]} | {point.version for point in page.points[2:]}) == 2


async def test_points_of_a_version_that_came_meanwhile_are_found(changing: Engine) -> None:
    found, missing = await changing.get_points("docs", ["p000", "p005"])
    assert not missing and found[0].version != found[1].version


async def test_a_backfill_passes_over_points_of_a_version_that_came_meanwhile(changing: Engine) -> None:
    collection = changing.registry.get("docs")
    moved = await changing.backfills.move(collection, collection.active, ["p000"])
    assert moved.applied == 0
