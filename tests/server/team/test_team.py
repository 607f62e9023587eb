"""What workers hear of each other by their sockets."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bebr.server.team.team import METRICS, Team


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as name:  # pytest's own may be longer than a Unix socket may be
        yield Path(name)


async def test_of_a_worker_that_is_killed_while_it_says_its_metrics_nothing_is_taken(folder: Path):
    """A part of them would be read as counters that became smaller, or not at all."""

    async def say_half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"# TYPE a counter\na_tot")
        writer.close()

    (folder / f"{METRICS}3-9").touch()  # nobody listens there any more
    half = await asyncio.start_unix_server(say_half, folder / f"{METRICS}2-8")
    whole = await Team(folder, 1, 4).say_metrics(lambda: b"a_total 1.0\n")
    async with half, whole:
        own = Team(folder, 1, 4).process
        said = await Team(folder, 0, 4).metrics()
    assert said.keys() == {own, "2-8", "3-9"}
    assert str(said[own]).startswith("a_total 1.0\n")
    assert (said["2-8"], said["3-9"]) == ("", None)
