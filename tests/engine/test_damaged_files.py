"""Segment files that are changed under a running service: it goes on, answers as before, and makes them anew."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.engine.running import running
from tests.waiting import until

from bebr.core.types import WriteMode
from bebr.engine import Engine
from bebr.errors import NotReady
from engine.test_engine import codes, make, points, search

Damage = Callable[[Path], None]


def cut(path: Path) -> None:
    os.truncate(path, 100)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    """One bit in each byte: whatever is read is wrong."""
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.write(bytes(byte ^ 1 for byte in data))


def zero(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))


def remove(path: Path) -> None:
    path.unlink()


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("collections/*/shard-*/*.seg"))


async def answers(engine: Engine) -> list[object]:
    """Everything that reads ids."""
    hits = [[(h.id, h.score) for h in (await search(engine, query, limit=20)).hits] for query in codes(20)]
    page = await engine.scroll("docs", {"must": [{"key": "lang", "match": {"value": "en"}}]}, 500, None)
    few = await engine.count("docs", {"must": [{"has_id": ["p001", "p002", "absent"]}]})
    return [hits, [point.id for point in page.points], few, await engine.count("docs", None)]


async def patiently(engine: Engine) -> list[object]:
    """The service may ask to be asked again, and nothing else."""

    async def served() -> list[object] | None:
        try:
            return await answers(engine)
        except NotReady:
            return None

    found = await until(served, "answers")
    assert found is not None
    return found


MAPPED = {"map_from_bytes": 0}


@pytest.mark.parametrize("opened", [{}, MAPPED], ids=["read", "mapped"])
@pytest.mark.parametrize("damage", [cut, empty, flip, zero, remove])
async def test_answers_stay_right(tmp_path: Path, damage: Damage, opened: dict[str, int]) -> None:
    async with running(tmp_path, scrub_bytes_per_s=0) as engine:
        await make(engine)
        await engine.write_points("docs", points(600), WriteMode.UPSERT)
    async with running(tmp_path, scrub_bytes_per_s=0, **opened) as engine:
        expected = await answers(engine)
        assert segments(tmp_path)
        for path in segments(tmp_path):
            damage(path)
        assert await patiently(engine) == expected
        await engine.write_points("docs", points(600), WriteMode.UPSERT)
        assert await patiently(engine) == expected
        if damage is not remove:
            assert (await engine.describe_collection("docs")).damaged_files
    async with running(tmp_path) as engine:
        assert await patiently(engine) == expected


@pytest.mark.parametrize("damage", [flip, remove])
async def test_damage_that_nobody_reads_is_found_in_the_background(tmp_path: Path, damage: Damage) -> None:
    async with running(tmp_path) as engine:
        await make(engine, shards=1)
        await engine.write_points("docs", points(300), WriteMode.UPSERT)
    async with running(tmp_path, scrub_bytes_per_s=2**30) as engine:
        expected = await answers(engine)
        for path in segments(tmp_path):
            damage(path)
        await engine.registry.get("docs").shards.scrub(2**30)

        async def is_mended() -> bool:
            found = (await engine.describe_collection("docs")).damaged_files
            return bool(found) and not engine.registry.get("docs").shards.upkeep.is_busy

        await until(is_mended, "damaged files that are made anew")
        assert await answers(engine) == expected
    async with running(tmp_path) as engine:
        assert (await engine.describe_collection("docs")).damaged_files == 0


async def test_dropped_collections_leave_no_map_and_no_file_open(tmp_path: Path) -> None:
    def held() -> int:
        maps = Path("/proc/self/maps").read_text().splitlines()
        return sum(str(tmp_path / "collections") in line for line in maps)

    async with running(tmp_path, scrub_bytes_per_s=0) as engine:
        for number in range(8):
            await make(engine, name=f"c{number}", shards=2)
            await engine.write_points(f"c{number}", points(200), WriteMode.UPSERT)
        # A segment that is being sealed is open meanwhile.
        await until(lambda: not [link for link in open_files() if link.endswith(".seg")], "sealing")
        assert held()
        for number in range(8):
            await engine.delete_collection(f"c{number}")
        assert held() == 0


MANY = """
import asyncio, sys
from pathlib import Path
from tests.engine.running import running
from engine.test_engine import make, points
from bebr.core.types import WriteMode

async def main(count):
    async with running(Path(sys.argv[1])) as engine:
        for number in range(count):
            await make(engine, name=f"c{number}", shards=2)
            await engine.write_points(f"c{number}", points(40), WriteMode.UPSERT)
    async with running(Path(sys.argv[1])) as engine:
        assert [await engine.count(f"c{number}", None) for number in range(count)] == [40] * count

asyncio.run(main(16))
"""


def test_many_collections_need_few_open_files(tmp_path: Path) -> None:
    """Segments, and collections that nobody asks for, hold none."""
    script = ["bash", "-c", 'ulimit -n 64 && exec "$@"', "bash", sys.executable, "-c", MANY, str(tmp_path)]
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parents[1])])
    ended = subprocess.run(script, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]


def open_files() -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(str(entry.readlink()))
    return found
