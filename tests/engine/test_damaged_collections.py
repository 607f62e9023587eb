"""A collection that cannot be opened stops no other: it is named and can be deleted; once mended it serves again."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis as redis_client
from tests.engine.running import running, running_jobs
from tests.servers import Server, ServerKind, running_server
from tests.waiting import until

from bebr.core.types import JobState, WriteMode
from bebr.engine import Engine
from bebr.errors import AlreadyExists, CollectionNotFound, DamagedCollection
from bebr.jobs import JobQueue
from bebr.jobs.ingest.ingestion import Ingestion
from engine.test_engine import make, points

Damage = Callable[[Path, str], None]


def database(folder: Path, uid: str) -> Path:
    return folder / "store" / "collections" / f"{uid}.db"


def overwrite_the_header(folder: Path, uid: str) -> None:
    with database(folder, uid).open("r+b") as file:
        file.write(b"nonsense" * 12)


def cut_the_file(folder: Path, uid: str) -> None:
    path = database(folder, uid)
    path.write_bytes(path.read_bytes()[:5000])


def remove_the_file(folder: Path, uid: str) -> None:
    database(folder, uid).unlink()


def put_a_folder_there(folder: Path, uid: str) -> None:
    database(folder, uid).unlink()
    database(folder, uid).mkdir()


def change_document(folder: Path, change: str) -> None:
    with sqlite3.connect(folder / "store" / "catalog.db") as connection:
        connection.execute(f"update documents set value = {change} where kind = 'collection' and name = 'bad'")
    connection.close()


def document_is_no_json(folder: Path, uid: str) -> None:
    change_document(folder, "substr(value, 1, 60)")


def document_has_a_flipped_bit(folder: Path, uid: str) -> None:
    change_document(folder, """replace(value, '"shards":1', '"shards":3')""")


def document_lacks_a_key(folder: Path, uid: str) -> None:
    change_document(folder, f"""'{{"uid":"{uid}","shards":1}}'""")


def catalog_lost_its_entry(folder: Path, uid: str) -> None:
    with sqlite3.connect(folder / "store" / "catalog.db") as connection:
        connection.execute("delete from collections where uid = ?", (uid,))
    connection.close()


DAMAGES = [
    overwrite_the_header,
    cut_the_file,
    remove_the_file,
    put_a_folder_there,
    document_is_no_json,
    document_has_a_flipped_bit,
    document_lacks_a_key,
    catalog_lost_its_entry,
]


async def fill(engine: Engine) -> str:
    """Two collections; the uid of the one called 'bad'."""
    for name in ("bad", "docs"):
        await make(engine, name=name, shards=1)
        await engine.write_points(name, points(60), WriteMode.UPSERT)
    return engine.registry.get("bad").document.uid


@pytest.mark.parametrize("damage", DAMAGES)
async def test_the_others_serve_and_it_can_be_deleted(tmp_path: Path, damage: Damage) -> None:
    folder, whole = tmp_path / "data", tmp_path / "whole"
    async with running(folder) as engine:
        uid = await fill(engine)
    shutil.copytree(folder, whole)
    damage(folder, uid)
    async with running(folder) as engine:
        assert engine.readiness().ready
        assert await engine.count("docs", None) == 60
        with pytest.raises(DamagedCollection, match=r"'bad' cannot be used: .* delete it"):
            await engine.count("bad", None)
        assert [(c.name, c.damage is None) for c in engine.list_collections()] == [("bad", False), ("docs", True)]
        assert (await engine.describe_collection("bad")).damage
        with pytest.raises(AlreadyExists):
            await make(engine, name="bad")
    shutil.rmtree(folder)
    shutil.copytree(whole, folder)
    async with running(folder) as engine:  # it was mended
        assert await engine.count("bad", None) == 60
    damage(folder, uid)
    async with running(folder) as engine:
        await engine.delete_collection("bad")
        with pytest.raises(CollectionNotFound):
            await engine.count("bad", None)
        if damage is not put_a_folder_there:
            assert not list((folder / "store" / "collections").glob(f"{uid}*"))
        assert not list((folder / "collections").glob(f"{uid}*"))
        await make(engine, name="bad")
        await engine.write_points("bad", points(5), WriteMode.UPSERT)
    async with running(folder) as engine:
        assert await engine.count("bad", None) == 5 and await engine.count("docs", None) == 60


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Server]:
    with running_server(ServerKind.REDIS) as server:
        yield server


@pytest.mark.parametrize("damage", ["document", "counter", "type"])
async def test_on_redis(tmp_path: Path, redis_server: Server, damage: str) -> None:
    with redis_client.Redis.from_url(redis_server.url) as client:
        client.flushall()
    async with running(tmp_path, redis_url=redis_server.url) as engine:
        uid = await fill(engine)
    with redis_client.Redis.from_url(redis_server.url) as client:
        if damage == "document":
            client.hset("bebr:documents:collection", "bad", '{"uid": "x"')
        elif damage == "counter":
            client.hset(f"{{bebr:{uid}:0}}:info", "last_seq", "seven")
        else:
            client.delete(f"{{bebr:{uid}:0}}:info")
            client.set(f"{{bebr:{uid}:0}}:info", "x")
    async with running(tmp_path, redis_url=redis_server.url) as engine:
        assert await engine.count("docs", None) == 60
        with pytest.raises(DamagedCollection):
            await engine.count("bad", None)
        await engine.delete_collection("bad")
        await make(engine, name="bad")


async def test_what_may_pass_is_tried_again(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        uid = await fill(engine)
    (folder,) = tmp_path.glob(f"collections/{uid}/shard-0")
    shutil.rmtree(folder)
    folder.touch()
    async with running(tmp_path) as engine:
        assert (await engine.describe_collection("bad")).damage and await engine.count("docs", None) == 60
        folder.unlink()

        async def is_sound() -> bool:
            return not (await engine.describe_collection("bad")).damage

        await until(is_sound, "another attempt to open it")
        assert await engine.count("bad", None) == 60


async def test_bulk_jobs_for_it_wait_and_others_go_first(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        uid = await fill(engine)
    kept = database(tmp_path, uid).read_bytes()
    cut_the_file(tmp_path, uid)
    for name, created_at in (("bad", 1.0), ("docs", 2.0)):
        folder = tmp_path / "jobs" / f"job-{name}"
        folder.mkdir(parents=True)
        body = "".join(json.dumps(p | {"id": f"new-{p['id']}"}) + "\n" for p in points(10)).encode()
        (folder / "body").write_bytes(body)
        options = {"mode": WriteMode.UPSERT, "gzip": False, "body_size_bytes": len(body), "batch_points": 4}
        Ingestion(id=f"job-{name}", folder=folder, collection=name, created_at=created_at, **options).save()
    async with running_jobs(tmp_path) as (engine, jobs):
        await reach(jobs, "job-docs", JobState.SUCCEEDED)
        assert jobs.get("job-bad").state is JobState.QUEUED and "damaged" in (jobs.get("job-bad").detail or "")
        assert await engine.count("docs", None) == 70
    database(tmp_path, uid).write_bytes(kept)
    async with running_jobs(tmp_path) as (engine, jobs):
        await reach(jobs, "job-bad", JobState.SUCCEEDED)
        assert await engine.count("bad", None) == 70


async def reach(jobs: JobQueue, job: str, state: JobState) -> None:
    await until(lambda: jobs.get(job).state is state, f"job {job} {state}")
