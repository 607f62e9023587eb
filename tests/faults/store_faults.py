"""What can happen to a store and to the files beside it, and what must come of it."""

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from faults.service import Service
from servers import Server

STORE_TIMEOUT_SECONDS = 1
"""Where a store hangs; elsewhere nothing is refused because a machine is busy."""
FLUSHED = b"*1\r\n$8\r\nFLUSHALL\r\n"


class Scene(Protocol):
    """What a fault works on.

    data: the service's folder; store: where the store's files are; whole, older: copies of them, as they were before
    the fault and some rounds ago. server: Redis, or None for SQLite.
    """

    data: Path
    store: Path
    whole: Path
    older: Path
    service: Service
    server: Server | None
    chance: random.Random

    def keep_whole(self) -> None: ...


@dataclass(frozen=True)
class Fault:
    """live: the service goes on; else it and Redis are killed before. harmless: nothing may be missing afterwards.
    late: at its next start Redis may do a part of what it had cut off, and the service then says so."""

    act: Callable[[Scene], None]
    live: bool = False
    harmless: bool = False
    late: bool = False

    @property
    def name(self) -> str:
        return self.act.__name__


def kill(scene: Scene) -> None:
    """Only the kill of the service and, where there is one, of Redis."""


def kill_service(scene: Scene) -> None:
    scene.service.kill()
    scene.service.start()


def older_store(scene: Scene) -> None:
    """The copy of some rounds ago."""
    shutil.rmtree(scene.store)
    shutil.copytree(scene.older, scene.store)


def cut_log(scene: Scene) -> None:
    for path in (scene.store / "collections").glob("*-wal"):
        _cut(scene, path)


def no_log(scene: Scene) -> None:
    for path in scene.store.rglob("*-wal"):
        path.unlink()


def no_catalog(scene: Scene) -> None:
    for path in scene.store.glob("catalog.db*"):
        path.unlink()


def cut_catalog(scene: Scene) -> None:
    path = scene.store / "catalog.db"
    data = path.read_bytes()
    path.write_bytes(data[: scene.chance.randrange(1, len(data))])


def cut_segments(scene: Scene) -> None:
    for path in (scene.data / "collections").rglob("*.seg"):
        _cut(scene, path)


def no_segments(scene: Scene) -> None:
    for path in (scene.data / "collections").rglob("*.seg"):
        path.unlink()


def emptied(scene: Scene) -> None:
    shutil.rmtree(scene.store)


def cut_tail(scene: Scene) -> None:
    """The end of Redis's append-only file is missing."""
    path = max(scene.store.glob("*.incr.aof"))
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - scene.chance.randrange(min(size, 200_000)))


def kill_redis(scene: Scene) -> None:
    assert scene.server is not None
    scene.server.kill()
    time.sleep(scene.chance.uniform(0, 0.3))
    scene.server.start()
    time.sleep(0.3)


def hang(scene: Scene) -> None:
    """Shorter or longer than the service is patient."""
    assert scene.server is not None
    scene.server.freeze()
    time.sleep(scene.chance.uniform(0.1, 2 * STORE_TIMEOUT_SECONDS))
    scene.server.thaw()
    time.sleep(0.3)


def failover(scene: Scene) -> None:
    """Another server at the same address, with the copy of some rounds ago."""
    assert scene.server is not None
    scene.server.kill()
    scene.keep_whole()
    older_store(scene)
    scene.server.start()
    time.sleep(0.3)


def flush(scene: Scene) -> None:
    """FLUSHALL; what Redis had before it is in its append-only file."""
    assert scene.server is not None
    scene.server.command("FLUSHALL")
    time.sleep(0.3)
    data = max(scene.store.glob("*.incr.aof")).read_bytes()
    shutil.copytree(scene.store, scene.whole)
    max(scene.whole.glob("*.incr.aof")).write_bytes(data[: data.rindex(FLUSHED)])


def _cut(scene: Scene, path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: scene.chance.randrange(len(data) + 1)])


ANY_STORE = (Fault(kill, harmless=True), Fault(cut_segments, harmless=True), Fault(no_segments, harmless=True))
SQLITE = (
    Fault(older_store),
    Fault(no_log),
    Fault(no_catalog),
    Fault(cut_log),
    Fault(cut_catalog, harmless=True),
    *ANY_STORE,
)
REDIS = (
    Fault(older_store),
    Fault(failover, live=True),
    Fault(flush, live=True),
    Fault(emptied),
    Fault(cut_tail, late=True),
    Fault(kill_redis, live=True, harmless=True),
    Fault(hang, live=True, harmless=True),
    Fault(kill_service, live=True, harmless=True),
    *ANY_STORE,
)
