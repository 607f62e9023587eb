"""What the operating system refuses is an answer that says so, on the way of any request."""

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.server.service import DOCS, assert_problem, code, create, serving

NDJSON = {"content-type": "application/x-ndjson"}


@contextmanager
def no_more_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def no_large_files(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_spool_without_a_place_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        line = ('{"id": "a", "code_b64": "%s"}\n' % code(1)).encode()  # noqa: UP031
        with no_more_files():
            answer = await client.post(f"{DOCS}/ingest", content=line, headers=NDJSON)
        assert "open files" in assert_problem(answer, 503, "Unavailable")["detail"]
        with no_large_files(100_000):
            answer = await client.post(f"{DOCS}/ingest", content=line * 10_000, headers=NDJSON)
        assert "disk is full" in assert_problem(answer, 507, "InsufficientStorage")["detail"]
        shutil.rmtree(tmp_path / "data" / "jobs")
        (tmp_path / "data" / "jobs").write_text("no folder")
        answer = await client.post(f"{DOCS}/ingest", content=line, headers=NDJSON)
        assert str(tmp_path) not in answer.text
        assert "log has more" in assert_problem(answer, 503, "Unavailable")["detail"]
        (tmp_path / "data" / "jobs").unlink()
        (tmp_path / "data" / "jobs").mkdir()
        assert (await client.post(f"{DOCS}/ingest", content=line, headers=NDJSON)).status_code == 202
