"""What the engine does when disks fail, bundles are damaged and collections go away under load."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from tests.waiting import until

from bebr.core.types import WriteMode
from bebr.engine.collections.encoders import CollectionEncoders
from bebr.errors import BebrError, CollectionNotFound, DamagedBundle, InvalidMetadata, Overloaded
from engine.test_engine import codes, make, point, points, running, search

MANY = 700


def shard_folder(folder: Path) -> Path:
    return next(folder.glob("collections/*/shard-0"))


def replace_by_a_file(folder: Path) -> None:
    """Nothing can be written there any more; root, who may write anywhere, is stopped by this too."""
    shutil.rmtree(folder)
    folder.touch()


async def test_writes_are_taken_again_once_the_disk_works_again(tmp_path: Path) -> None:
    """Sealing failed, so the heads piled up and writes were refused; that must not be for ever."""
    async with running(tmp_path) as engine:
        await make(engine, shards=1)
        folder = shard_folder(tmp_path)
        replace_by_a_file(folder)
        data = codes(MANY)
        written = 0
        with pytest.raises(Overloaded):
            while written < MANY:
                batch = [point(i, data[i], n=i) for i in range(written, written + 50)]
                written += (await engine.write_points("docs", batch, WriteMode.UPSERT)).applied
        folder.unlink()
        folder.mkdir()

        async def is_taken() -> bool:
            try:
                return bool((await engine.write_points("docs", [point(999, data[0], n=0)], WriteMode.UPSERT)).applied)
            except Overloaded:
                return False

        await until(is_taken, "a write that is taken")
        assert await engine.count("docs", None) == written + 1
    async with running(tmp_path) as engine:
        assert await engine.count("docs", None) == written + 1


async def test_a_stop_with_a_broken_disk_still_closes_the_store(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await make(engine, shards=1)
        await engine.write_points("docs", points(10), WriteMode.UPSERT)
        folder = shard_folder(tmp_path)
        replace_by_a_file(folder)
    folder.unlink()
    async with running(tmp_path) as engine:
        assert await engine.count("docs", None) == 10


async def test_a_collection_deleted_under_load_leaves_nothing_behind(tmp_path: Path) -> None:
    data = codes(64)
    async with running(tmp_path) as engine:
        await make(engine)

        async def write(writer: int) -> None:
            for start in range(20):
                batch = [point(1000 * writer + 40 * start + i, data[i], n=i) for i in range(40)]
                await engine.write_points("docs", batch, WriteMode.UPSERT)

        async def read() -> None:
            for query in data:
                await search(engine, query)
                await asyncio.sleep(0.001)

        tasks = [asyncio.create_task(work) for work in (*(write(n) for n in range(4)), *(read() for _ in range(3)))]
        await asyncio.sleep(0.15)
        await engine.delete_collection("docs")
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes if outcome is not None} <= {CollectionNotFound, Overloaded}
        assert list(tmp_path.glob("collections/*")) == []
        await make(engine)
        assert await engine.count("docs", None) == 0


async def test_an_error_that_is_told_again_and_again_does_not_grow(tmp_path: Path) -> None:
    """The error of a damaged bundle is kept; raised as it is, it would gather a traceback, and callers add fields."""
    async with running(tmp_path) as engine:
        await make(engine)
        collection = engine.registry.get("docs")
        damage = DamagedBundle("a file does not match", bundle="b@1")
        collection.encoders = CollectionEncoders({}, {0: damage}, {})
        lengths = set()
        for _ in range(5):
            with pytest.raises(DamagedBundle) as raised:
                await engine.write_points("docs", points(1), WriteMode.UPSERT)
            raised.value.fields["search"] = 3
            lengths.add(len(raised.traceback))
        assert len(lengths) == 1
        assert damage.fields == {"bundle": "b@1"}


async def test_thresholds_of_any_size_mean_what_they_say(tmp_path: Path) -> None:
    from bebr.core.scoring import Scorer

    data = codes(30)
    async with running(tmp_path) as engine:
        await make(engine)
        await engine.write_points("docs", points(30), WriteMode.UPSERT)
        for scorer in (Scorer.HAMMING, Scorer.SDC):
            for threshold in (1e300, 1e39, 1e30, 1e9, 5.0):
                assert (await search(engine, data[0], scorer=scorer, limit=30, score_threshold=threshold)).hits == []
                low = await search(engine, data[0], scorer=scorer, limit=30, score_threshold=-threshold)
                assert len(low.hits) == 30, (scorer, threshold)


async def test_cursors_lead_up_to_the_limit_and_end_there(tmp_path: Path) -> None:
    async with running(tmp_path, max_limit=25) as engine:
        await make(engine)
        await engine.write_points("docs", points(100), WriteMode.UPSERT)
        expected = [hit.id for hit in (await search(engine, codes(1)[0], limit=25)).hits]
        page = await search(engine, codes(1)[0], limit=10)
        ids = [hit.id for hit in page.hits]
        while page.cursor is not None:
            page = await search(engine, codes(1)[0], limit=10, cursor=page.cursor)
            ids += [hit.id for hit in page.hits]
        assert ids == expected
        with pytest.raises(BebrError):
            await search(engine, codes(1)[0], limit=26, cursor=None)


async def test_a_disk_that_fails_while_loading_is_waited_for(tmp_path: Path) -> None:
    from tests.engine.running import settings

    from bebr.bootstrap import build_engine

    async with running(tmp_path) as engine:
        await make(engine, shards=1)
        await engine.write_points("docs", points(100), WriteMode.UPSERT)
    folder = shard_folder(tmp_path)
    replace_by_a_file(folder)
    engine = build_engine(settings(tmp_path))
    await engine.start()
    try:
        await engine.wait_until_ready()
        assert (await engine.describe_collection("docs")).damage
        folder.unlink()

        async def is_sound() -> bool:
            return not (await engine.describe_collection("docs")).damage

        await until(is_sound, "another attempt to open it")
        assert await engine.count("docs", None) == 100
    finally:
        await engine.stop()


async def test_metadata_does_not_outgrow_its_limit_bit_by_bit(tmp_path: Path) -> None:
    async with running(tmp_path, max_metadata_bytes=1024) as engine:
        await make(engine)
        await engine.write_points("docs", points(2), WriteMode.UPSERT)
        await engine.set_metadata("docs", ["p000"], None, {"a": "x" * 600})
        with pytest.raises(InvalidMetadata, match="p000"):
            await engine.set_metadata("docs", ["p000"], None, {"b": "y" * 600})
        (found,), _ = await engine.get_points("docs", ["p000"])
        assert sorted(json.loads(found.metadata or "")) == ["a", "lang", "n"]
        assert (await engine.set_metadata("docs", ["p000"], None, {"a": None, "b": "y" * 600})).points == 1
