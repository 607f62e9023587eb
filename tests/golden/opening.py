"""Opens copies of the golden folders with this release, on the store that each was made with."""

import json
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from redis import Redis
from tests.golden.made import EXPECTED
from tests.waiting import PATIENCE_SECONDS, until

from bebr.bootstrap import build_app
from bebr.config import Settings
from servers import Server, ServerKind

FOLDER = Path(__file__).parent
FORMATS = sorted(FOLDER.glob("format-*"))
DUMP = "dump.rdb"


@dataclass(frozen=True)
class Golden:
    """One kept data folder."""

    format: Path
    """Folder of all that one release made."""
    name: str
    """Its key in expected.json: 'sqlite/stopped', 'sqlite/killed' or 'redis'."""
    server: ServerKind | None
    """What holds the store; None for SQLite."""

    def __str__(self) -> str:
        return f"{self.format.name}/{self.name}" + (f" in {self.server}" if self.server else "")

    @property
    def data(self) -> Path:
        """The data folder, without the bundles that all share."""
        return self.format / self.name / "data" if self.server else self.format / self.name

    def expected(self) -> list[tuple[dict[str, Any], Any]]:
        """What was asked, and what the release answered that made the folder."""
        return [(asked, answer) for asked, answer in read_expected(self.format)[self.name]]

    def copy(self, folder: Path) -> Path:
        """A data folder that may be changed."""
        shutil.copytree(self.format / "bundles", folder / "bundles")
        return Path(shutil.copytree(self.data, folder, dirs_exist_ok=True))


def all_golden() -> list[Golden]:
    found = []
    for folder in FORMATS:
        found += [Golden(folder, f"sqlite/{data.name}", None) for data in sorted((folder / "sqlite").iterdir())]
        found += [Golden(folder, "redis", kind) for kind in ServerKind]
    return found


def read_expected(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / EXPECTED).read_text())
    return content


@contextmanager
def store_of(golden: Golden) -> Iterator[dict[str, Any]]:
    """Settings of a store that holds what was kept; a server reads it from its dump."""
    if golden.server is None:
        yield {}
        return
    with TemporaryDirectory(prefix="bebr-golden-") as folder:  # not pytest's: a socket's path has at most 107 bytes
        shutil.copy(golden.format / golden.name / DUMP, folder)
        # With an append-only file a server reads that and no dump. It is switched on as soon as the dump is read.
        server = Server(golden.server, Path(folder), options=("--appendonly", "no"))
        server.start()
        try:
            assert server.command("CONFIG", "SET", "appendonly", "yes") == b"+OK\r\n"
            yield {"redis_url": server.url}
        finally:
            server.kill()  # while it writes its first append-only file it would refuse to stop


def kinds_of_keys(url: str) -> set[str]:
    """The names of a server's keys, without ids, numbers and the keys of receipts."""
    with closing(Redis.from_url(url)) as client:
        names = [key.decode() for key in client.scan_iter()]
    return {re.sub(r"[0-9a-f]{24}:\d+|(?<=:receipt:).*", "*", name) for name in names}


@asynccontextmanager
async def opened(data: Path, **store: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service on a data folder, once it is ready and has finished the jobs that it took up."""
    few = {"head_rows": 32, "min_free_disk_bytes": 0, "search_threads": 1, "encoder_threads": 1}
    app = build_app(Settings(**({"data_dir": data} | few | store)))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://bebr", timeout=PATIENCE_SECONDS) as client,
    ):

        async def is_ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await until(is_ready, "/readyz")
        await until_idle(client)
        yield client


async def until_idle(client: httpx.AsyncClient) -> None:
    """Until no job is under way."""

    async def is_idle() -> bool:
        return not await working(client)

    await until(is_idle, "no job is under way")


async def working(client: httpx.AsyncClient) -> bool:
    """Whether a job is under way. A fit that is queued is not: it waits for points that nobody writes."""
    jobs = (await client.get("/v1/jobs")).json()["jobs"]
    return any(job["state"] == "running" or (job["state"], job["kind"]) == ("queued", "ingest") for job in jobs)
