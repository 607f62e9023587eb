"""Points that the store has damaged: errors that name them, left out of rebuilt shards and of fits; the rest serves."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.engine.running import running

from bebr.core.types import WriteMode
from bebr.errors import DamagedPoint
from engine.test_engine import codes, make, point, points, search


def flip(folder: Path, column: str, ids: list[str]) -> None:
    """One bit of a column of these points."""
    (path,) = folder.glob("store/collections/*.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.text_factory = bytes
        tables = [row[0].decode() for row in connection.execute("select name from sqlite_schema where type = 'table'")]
        for table in (name for name in tables if name.startswith("points_")):
            for point_id in ids:
                for (value,) in connection.execute(
                    f"select {column} from {table} where id = ?", (point_id,)
                ).fetchall():
                    changed = value[:3] + bytes([value[3] ^ 1]) + value[4:]
                    kind = "blob" if column == "record" else "text"
                    connection.execute(
                        f"update {table} set {column} = cast(? as {kind}) where id = ?", (changed, point_id)
                    )


async def test_reads_name_it_and_searches_find_the_others(tmp_path: Path) -> None:
    data = codes(60)
    async with running(tmp_path) as engine:
        await make(engine)
        await engine.write_points("docs", points(60), WriteMode.UPSERT)
    flip(tmp_path, "metadata", ["p007"])
    async with running(tmp_path) as engine:
        with pytest.raises(DamagedPoint, match=r"collection 'docs': .* 'p007'"):
            await search(engine, data[7], limit=3)
        with pytest.raises(DamagedPoint):
            await engine.get_points("docs", ["p001", "p007"])
        with pytest.raises(DamagedPoint):
            await engine.set_metadata("docs", ["p007"], None, {"n": 1})
        assert (await engine.describe_collection("docs")).damaged_points == 1
        assert (await engine.get_points("docs", ["p001"]))[1] == []
        shutil.rmtree(next(tmp_path.glob("collections/*")))
    async with running(tmp_path) as engine:  # the shards are built from the store
        assert (await engine.describe_collection("docs")).damaged_points == 1
        assert await engine.count("docs", None) == 59
        assert "p007" not in [hit.id for hit in (await search(engine, data[7], limit=59)).hits]
    async with running(tmp_path) as engine:  # it is told again after each start
        assert (await engine.describe_collection("docs")).damaged_points == 1
        await engine.write_points("docs", [point(7, data[7], n=7)], WriteMode.UPSERT)
        assert (await search(engine, data[7], limit=3)).hits[0].id == "p007"
    async with running(tmp_path) as engine:
        assert (await engine.describe_collection("docs")).damaged_points == 0


async def test_a_damaged_point_can_be_deleted(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await make(engine)
        await engine.write_points("docs", points(20), WriteMode.UPSERT)
    flip(tmp_path, "record", ["p003"])
    async with running(tmp_path) as engine:
        assert (await engine.delete_points("docs", ["p003"])).points == 1
        assert await engine.count("docs", None) == 19 and (await engine.get_points("docs", ["p003"]))[1] == ["p003"]
