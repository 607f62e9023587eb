"""The workers of a service, as each of them knows the others: by files in a folder that nobody else can open.

primary.sock       where the primary takes what others pass on
metrics-N-PID      where worker N says its metrics
said-N-PID         what it had counted when it was asked last, or ended
ended              what workers that have ended had counted
keys-N             how many requests worker N has counted of each API key
product-*          what the primary says of binarizers, see `encoding.quantization.products`
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bebr.errors import NotReady
from bebr.server.team.ended import Ended

METRICS = "metrics-"
END = "# EOF\n"
"""Last line of what a worker says: one that is killed meanwhile has said a part only."""
ANSWER_SECONDS = 2.0
"""How long a worker may take to say its metrics."""


@dataclass(frozen=True)
class Team:
    """One worker among several."""

    folder: Path
    number: int
    """0: it is the primary."""
    count: int

    @property
    def is_primary(self) -> bool:
        return self.number == 0

    @property
    def primary_socket(self) -> str:
        """Path of the Unix socket of the primary."""
        return str(self.folder / "primary.sock")

    @property
    def metrics_socket(self) -> Path:
        """Path of the Unix socket of this process."""
        return self.folder / f"{METRICS}{self.process}"

    def keys_file(self, number: int) -> Path:
        """Where a worker counts requests by key."""
        return self.folder / f"keys-{number}"

    @cached_property
    def ended(self) -> Ended:
        """What those had counted that have ended."""
        return Ended(self.folder)

    @property
    def process(self) -> str:
        """Names this process in the files."""
        return f"{self.number}-{os.getpid()}"

    async def metrics(self) -> dict[str, str | None]:
        """What the other workers say, by process; '': it does not answer, None: it has ended."""
        paths = sorted(path for path in self.folder.glob(f"{METRICS}*") if path != self.metrics_socket)
        said = await asyncio.gather(*map(_said_at, paths))
        return {path.name.removeprefix(METRICS): text for path, text in zip(paths, said, strict=True)}

    async def check_ready(self) -> None:
        """Ask the primary whether the service is ready. Raises NotReady."""
        status = b""
        with suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(self.primary_socket)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                status = await reader.readline()
            finally:
                writer.close()
        if b" 200 " not in status:
            raise NotReady("the primary worker is not ready")

    async def say_metrics(self, render: Callable[[], bytes]) -> asyncio.AbstractServer:
        """Say the metrics of this worker to whoever connects, until the server is closed."""

        async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                writer.write(render() + END.encode())
                await writer.drain()
            writer.close()

        return await asyncio.start_unix_server(say, str(self.metrics_socket))


def number_of(process: str) -> int:
    """Of a worker. process: as its files name it."""
    return int(process.partition("-")[0])


async def _said_at(path: Path) -> str | None:
    """What is said there; '' where nobody answers, None where nobody is any more."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(path))
            try:
                text = (await reader.read()).decode()
                return text if text.endswith(END) else ""
            finally:
                writer.close()
    except (ConnectionRefusedError, FileNotFoundError):
        return None
    except (OSError, TimeoutError):
        return ""
