"""Where disk or memory is low, what adds points is refused, and what makes room is not."""

import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engine.running import running
from tests.engine.test_engine import codes, make, point, points

from bebr.core.types import WriteMode
from bebr.engine import CollectionSettings
from bebr.errors import InsufficientStorage

GERMAN = {"must": [{"key": "lang", "match": {"value": "de"}}]}


@pytest.mark.parametrize("low", [{"min_free_disk_bytes": 2**60}, {"max_memory_bytes": 1}], ids=["disk", "memory"])
async def test_deletes_and_changes_that_shrink_pass(
    tmp_path: Path, low: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as engine:
        await make(engine)
        await make(engine, "other")
        await engine.write_points("docs", points(20), WriteMode.UPSERT)
        assert engine.writes_refused_because() is None
    async with running(tmp_path, **low) as engine:
        with pytest.raises(InsufficientStorage, match="Deletes still work"):
            await engine.write_points("docs", points(1), WriteMode.UPSERT)
        with pytest.raises(InsufficientStorage):
            await engine.create_collection("more", CollectionSettings(code="24x2"))
        assert (await engine.delete_points("docs", ["p000", "p001"])).points == 2
        assert (await engine.set_metadata("docs", ["p002"], None, {"n": None})).points == 1
        assert (await engine.set_metadata("docs", None, GERMAN, {"n": 1})).points == 9
        for grown in ({"text": "abc"}, {"n": 123_456}):
            with pytest.raises(InsufficientStorage):
                await engine.set_metadata("docs", ["p004"], None, grown)
        assert (await engine.delete_points("docs", filter=GERMAN)).points == 9
        assert await engine.count("docs", None) == 9
        await engine.delete_collection("other")
        assert engine.writes_refused_because() == ("disk" if "min_free_disk_bytes" in low else "memory")
        assert [r.levelno for r in caplog.records if "writes are refused" in r.getMessage()] == [logging.WARNING]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 MiB, where the machine lets us make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_takes_deletes_and_then_points_again(small_disk: Path) -> None:
    data = codes(100)

    def batch(start: int) -> list[dict[str, Any]]:
        return [point(start + n, data[n], lang="de", t=os.urandom(4000).hex()) for n in range(100)]

    async with running(small_disk, head_rows=8192) as engine:
        await make(engine, shards=1)
        await make(engine, "other", shards=1)
        await engine.write_points("other", points(50), WriteMode.UPSERT)
        await engine.write_points("docs", batch(0), WriteMode.UPSERT)
        other = small_disk / "other program"
        with pytest.raises(OSError), other.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**12))
        with pytest.raises(InsufficientStorage):
            for start in range(100, 10**6, 100):
                await engine.write_points("docs", batch(start), WriteMode.UPSERT)
        written = await engine.count("docs", None)
        assert (await engine.delete_points("docs", [f"p{n:03d}" for n in range(50)])).points == 50
        assert (await engine.delete_points("docs", filter=GERMAN)).points == written - 50
        await engine.delete_collection("other")
        other.unlink()
        assert (await engine.write_points("docs", batch(0), WriteMode.UPSERT)).applied == 100
    async with running(small_disk, head_rows=8192) as engine:
        assert await engine.count("docs", None) == 100
