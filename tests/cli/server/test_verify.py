"""`bebr verify` finds every kind of damage, names it, and finds nothing where all is sound."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.test_commands import run
from tests.engine.running import running

from bebr.core.types import WriteMode
from engine.test_engine import make, points


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 16
    path.write_bytes(data)


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def a_point(folder: Path) -> str:
    change(next(folder.glob("store/collections/*.db")), "update points_0 set version = 3 where id = 'p003'")
    return "point 'p003' of collection docs"


def a_counter(folder: Path) -> str:
    change(next(folder.glob("store/collections/*.db")), "update shards set points = points + 1")
    return "shard 0 of collection docs: it counts 101 points, and has 100"


def an_index_of_the_database(folder: Path) -> str:
    (path,) = folder.glob("store/collections/*.db")
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute(
            "select rootpage from sqlite_schema where name = 'sqlite_autoindex_points_0_1'"
        ).fetchone()
        (size,) = connection.execute("pragma page_size").fetchone()
    flip(path, (page - 1) * size + size - 20)
    return f"{path.name}:"


def a_database(folder: Path) -> str:
    (path,) = folder.glob("store/collections/*.db")
    path.write_bytes(b"x" * 5000)
    return f"{path.name}:"


def a_missing_database(folder: Path) -> str:
    (path,) = folder.glob("store/collections/*.db")
    path.unlink()
    return "collection docs:"


def a_document(folder: Path) -> str:
    change(folder / "store" / "catalog.db", "update documents set value = replace(value, '24x2', '24x1')")
    return "collection docs:"


def a_segment(folder: Path) -> str:
    path = next(folder.glob("collections/*/shard-0/*.seg"))
    flip(path, path.stat().st_size // 2)
    return path.name


def a_manifest(folder: Path) -> str:
    flip(next(folder.glob("collections/*/shard-0/shard.json")), 40)
    return "shard.json"


def a_bundle(folder: Path) -> str:
    bundle = folder / "bundles" / "broken@1"
    bundle.mkdir(parents=True)
    (bundle / "manifest.json").write_text("{")
    return "bundle broken@1"


def a_job(folder: Path) -> str:
    job = folder / "jobs" / "0123"
    job.mkdir(parents=True)
    (job / "job.json").write_text("{}")
    return "job 0123"


DAMAGES = [
    a_point, a_counter, an_index_of_the_database, a_database, a_missing_database, a_document, a_segment, a_manifest,
    a_bundle, a_job,
]  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import asyncio

    folder = tmp_path_factory.mktemp("sound")

    async def fill() -> None:
        async with running(folder) as engine:
            await make(engine, shards=1)
            await engine.write_points("docs", points(100), WriteMode.UPSERT)

    asyncio.run(fill())
    return folder


def test_all_is_sound(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", "--data-dir", str(sound)) == 0
    shown = capsys.readouterr().out
    assert "collection docs: 100 points" in shown and ".seg" in shown and "damaged" not in shown


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named(
    tmp_path: Path, sound: Path, damage: Callable[[Path], str], capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    folder = tmp_path / "data"
    shutil.copytree(sound, folder)
    named = damage(folder)
    assert run("verify", "--data-dir", str(folder)) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("damaged")]
    assert any(named in line for line in lines), lines
