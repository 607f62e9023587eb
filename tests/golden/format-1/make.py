"""Makes the data of this folder with the release whose formats it holds; ../README.md says how to run it.

It sees a service from outside only: bundles, HTTP, and signals. What it sends stands in `content.py`, what it asks
afterwards in `questions.py`.
"""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import content
import httpx
import questions
from made import EXPECTED, arithmetic, digests
from tests.engine.two_models import text_bundle
from tests.faults.service import Service
from tests.servers import Server, ServerKind

DUMP = "dump.rdb"
ENVIRONMENT = {
    "BEBR_HEAD_ROWS": "32",
    "BEBR_SEARCH_THREADS": "1",
    "BEBR_ENCODER_THREADS": "1",
    "BEBR_INGEST_BATCH_POINTS": "4",
    "BEBR_MIN_FREE_DISK_BYTES": "0",
    "BEBR_RECEIPT_TTL_SECONDS": "11000d",
}
"""Small segments, small batches, and receipts that the tests can still find in thirty years."""


def main(target: Path) -> None:
    for name in ("bundles", "sqlite", "redis"):
        shutil.rmtree(target / name, ignore_errors=True)
    with TemporaryDirectory() as scratch:
        work = Path(scratch)
        make_bundles(work, target / "bundles")
        answers = make_sqlite(work / "sqlite", target) | make_redis(work / "redis", target)
    (target / EXPECTED).write_text(line_by_line({"arithmetic": arithmetic(), "files": digests(target), **answers}))


def line_by_line(content: dict[str, Any]) -> str:
    """As JSON, with a line for each question."""
    parts = (f"{json.dumps(name)}: {_lines(value)}" for name, value in content.items())
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(value: Any) -> str:
    if isinstance(value, list):
        return "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
    return json.dumps(value, indent=0) if isinstance(value, dict) else json.dumps(value)


def make_bundles(work: Path, target: Path) -> None:
    old = text_bundle(work, content.OLD, seed=0, code="12x4")
    text_bundle(work, content.NEW, seed=1, code="16x4+16x2", old=old)
    for name in (content.OLD, content.NEW):
        shutil.copytree(work / name, target / name)


def make_sqlite(work: Path, target: Path) -> dict[str, list[Any]]:
    """All collections after a clean stop; and some of them after a kill, with what was written last in SQLite's log."""
    stopped, killed = with_bundles(work / "stopped", target), with_bundles(work / "killed", target)
    write_and_stop(Service(stopped, **ENVIRONMENT))
    write_and_kill(Service(killed, **ENVIRONMENT), content.FEW)
    kept = target / "sqlite"
    keep(stopped, kept / "stopped")
    keep(killed, kept / "killed")
    return {f"sqlite/{name}": answers(kept / name, target) for name in ("stopped", "killed")}


def make_redis(work: Path, target: Path) -> dict[str, list[Any]]:
    """What a killed service left in Redis and in its data folder."""
    data, kept = with_bundles(work, target), target / "redis"
    with redis() as (server, folder):
        write_and_kill(Service(data, **ENVIRONMENT, BEBR_REDIS_URL=server.url), content.EVERY)
        assert server.command("SAVE") == b"+OK\r\n"
        keep(data, kept / "data")
        shutil.copy(folder / DUMP, kept / DUMP)
    with redis(kept / DUMP) as (server, _):
        return {"redis": answers(kept / "data", target, BEBR_REDIS_URL=server.url)}


def write_and_stop(service: Service) -> None:
    """All collections, a job that is cut short in good order, and an end that leaves only what is sealed."""
    with talking_to(service) as client:
        content.fill(client, content.EVERY)
        content.interrupt(client, 300, gzip=True)
        assert service.stop() == 0


def write_and_kill(service: Service, names: Sequence[str]) -> None:
    """Some collections, sealed by an end in good order; a few more writes and a job, and then kill -9."""
    with talking_to(service) as client:
        content.fill(client, names)
        assert service.stop() == 0
    with talking_to(service) as client:
        content.change(client, names)
        content.interrupt(client, 48, gzip=False)
        service.kill()


@contextmanager
def redis(dump: Path | None = None) -> Iterator[tuple[Server, Path]]:
    with TemporaryDirectory(prefix="redis-") as folder:
        server = Server(ServerKind.REDIS, Path(folder), options=("--appendonly", "no"))
        if dump is not None:
            shutil.copy(dump, folder)
        server.start()
        try:
            yield server, Path(folder)
        finally:
            server.kill()


@contextmanager
def talking_to(service: Service) -> Iterator[httpx.Client]:
    with ExitStack() as stack:
        stack.enter_context(service)
        yield stack.enter_context(httpx.Client(base_url=service.url, timeout=60))


def with_bundles(data: Path, target: Path) -> Path:
    """A new data folder that has the bundles of all."""
    shutil.copytree(target / "bundles", data / "bundles")
    return data


def keep(data: Path, place: Path) -> None:
    """Copy a data folder, without the bundles of all, and without what SQLite only shares between processes."""
    shutil.copytree(data, place, ignore=shutil.ignore_patterns(content.OLD, content.NEW, "*-shm"))


def answers(data: Path, target: Path, **environment: str) -> list[Any]:
    """What the release answers to everything that is asked, from a copy of a kept folder."""
    with TemporaryDirectory() as scratch:
        folder = with_bundles(Path(scratch) / "data", target)
        shutil.copytree(data, folder, dirs_exist_ok=True)
        with talking_to(Service(folder, **ENVIRONMENT, **environment)) as client:
            content.wait_for_jobs(client)
            return [[asked, questions.answer(client, asked)] for asked in questions.all_of(client)]


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
