"""`bebr verify`: read everything that is stored, and say line by line what is not what was written."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, NamedTuple

import typer

from bebr.cli.options import ConfigFile, DataDir
from bebr.cli.server.serve import RedisUrl, Set

if TYPE_CHECKING:
    from bebr.config import Settings
    from bebr.store import Document
    from bebr.store.backup.make import StoreReader

PAGE_ENTRIES = 5000


class Finding(NamedTuple):
    """One line of the report."""

    what: str
    damage: str | None = None
    """None: it is sound."""


def verify(data_dir: DataDir = None, redis_url: RedisUrl = None, config: ConfigFile = None, set: Set = None) -> None:
    """Read all points, documents, segments, bundles and jobs, and name what is damaged. The service may run.

    The exit code is 1 where something is damaged.
    """
    from bebr.cli.options import settings_from
    from bebr.cli.output import out

    settings = settings_from(config, {"data_dir": data_dir, "redis_url": redis_url}, set or ())

    async def work() -> int:
        damaged = 0
        async for finding in _everything(settings):
            damaged += finding.damage is not None
            sign = "[green]sound[/]   " if finding.damage is None else "[red]damaged[/] "
            out().print(f"{sign} ", end="")
            out().print(
                finding.what if finding.damage is None else f"{finding.what}: {finding.damage}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        return damaged

    if damaged := asyncio.run(work()):
        typer.echo(f"{damaged} damaged; docs/operations.md says what to do about each", err=True)
        raise typer.Exit(1)


async def _everything(settings: "Settings") -> AsyncIterator[Finding]:
    from bebr.bootstrap import build_reader
    from bebr.errors import Damaged

    if settings.redis_url is None:
        for finding in _database_files(settings):
            yield finding
    reader = build_reader(settings)
    try:
        await reader.open()
        try:
            async for finding in _documents_and_points(reader):
                yield finding
        finally:
            await reader.close()
    except Damaged as error:
        yield Finding("catalog", error.detail)
    for finding in (*_segments(settings), *_bundles(settings), *_jobs(settings)):
        yield finding


def _database_files(settings: "Settings") -> Iterator[Finding]:
    from bebr.store.sqlite.files import integrity_problem

    folder = settings.data_dir / "store"
    for path in [folder / "catalog.db", *folder.glob("catalog-copy.db"), *sorted(folder.glob("collections/*.db"))]:
        yield Finding(str(path.relative_to(settings.data_dir)), integrity_problem(path))


async def _documents_and_points(reader: "StoreReader") -> AsyncIterator[Finding]:
    from bebr.store import DamagedDocument

    for kind in ("collection", "alias", "binarizer", "calibration", "reservoir", "reservoir-page"):
        for name, document in (await reader.list_documents(kind)).items():
            if isinstance(document, DamagedDocument):
                yield Finding(f"{kind} {name}", document.reason)
            elif kind == "collection":
                async for finding in _points(reader, name, document):
                    yield finding
            else:
                yield Finding(f"{kind} {name}")


async def _points(reader: "StoreReader", name: str, document: "Document") -> AsyncIterator[Finding]:
    from bebr.errors import BebrError

    points = 0
    is_sound = True
    try:
        shards = document["shards"]
        async with reader.frozen(document["uid"], shards) as frozen:
            for shard in range(shards):
                seq, living = 0, 0
                while entries := await frozen.feed(shard, seq, PAGE_ENTRIES):
                    seq = entries[-1].seq
                    living += sum(entry.record is not None or entry.is_damaged for entry in entries)
                    for entry in entries:
                        if entry.is_damaged:
                            is_sound = False
                            yield Finding(f"point {entry.id!r} of collection {name}", "it is not what was written")
                counted = (await frozen.counters(shard)).points
                if counted != living and is_sound:
                    is_sound = False
                    yield Finding(
                        f"shard {shard} of collection {name}", f"it counts {counted} points, and has {living}"
                    )
                points += living
    except (BebrError, KeyError, TypeError) as error:
        yield Finding(f"collection {name}", str(error))
        return
    if is_sound:
        yield Finding(f"collection {name}: {points} points")


def _segments(settings: "Settings") -> Iterator[Finding]:
    from bebr.index import shard_files

    for folder in sorted(settings.data_dir.glob("collections/*/shard-*")):
        if folder.is_dir() and folder.suffix == "":
            for name, damage in shard_files.verify(folder):
                yield Finding(str(folder.relative_to(settings.data_dir) / name), damage)


def _bundles(settings: "Settings") -> Iterator[Finding]:
    from bebr.encoding import BundleRegistry, shipped_bundles
    from bebr.errors import BebrError

    registry = BundleRegistry([settings.bundles_dir, shipped_bundles()])
    for name, damaged in registry.damaged().items():
        yield Finding(f"bundle {name}", damaged.detail)
    for bundle in registry.list():
        try:
            registry.get(bundle.id)
            yield Finding(f"bundle {bundle.id}")
        except BebrError as error:
            yield Finding(f"bundle {bundle.id}", error.detail)


def _jobs(settings: "Settings") -> Iterator[Finding]:
    from bebr.errors import DamagedStore
    from bebr.jobs.ingest.ingestion import STATE_FILE, Ingestion

    for path in sorted(settings.data_dir.glob(f"jobs/*/{STATE_FILE}")):
        try:
            ingestion = Ingestion.load(path.parent)
            if not ingestion.state.ended:
                ingestion.check_body()
            yield Finding(f"job {path.parent.name}")
        except DamagedStore as error:
            yield Finding(f"job {path.parent.name}", error.detail)
