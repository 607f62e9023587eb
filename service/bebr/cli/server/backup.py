"""`bebr backup` and `bebr restore`: a whole store in one file."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bebr.cli.options import ConfigFile, DataDir, refuse
from bebr.cli.server.serve import RedisUrl, Set

if TYPE_CHECKING:
    from bebr.config import Settings
    from bebr.store.backup.archive import Manifest
    from bebr.store.backup.make import Progress

LINE_EVERY_SECONDS = 5.0


def backup(
    file: Annotated[
        Path, typer.Argument(help="File to write; one that is there is replaced when the new one is whole.")
    ],
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave out collections that cannot be read, and say which.")
    ] = False,
    config: ConfigFile = None,
    set: Set = None,
) -> None:
    """Write collections, points and fitted binarizers to one file, while the service runs or not."""
    from bebr import __version__
    from bebr.bootstrap import build_reader
    from bebr.store.backup.make import make_backup

    settings = _settings(config, data_dir, redis_url, set)

    async def work() -> "Manifest":
        reader = build_reader(settings)
        await reader.open()
        try:
            with _lines("read") as progress:
                return await make_backup(reader, file, __version__, progress, skip_damaged=skip_damaged)
        finally:
            await reader.close()

    manifest = asyncio.run(work())
    typer.echo(f"{file}: {_summary(manifest)}, {file.stat().st_size:,} bytes")
    if manifest.left_out:
        typer.echo(f"left out, for they cannot be read: {', '.join(manifest.left_out)}", err=True)
        raise typer.Exit(1)


def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="File that `bebr backup` wrote.")],
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    check: Annotated[bool, typer.Option("--check", help="Only check the file, and change nothing.")] = False,
    config: ConfigFile = None,
    set: Set = None,
) -> None:
    """Fill an empty store, of either kind, from a backup. The service must not run."""
    from bebr.bootstrap import build_store
    from bebr.store.backup.restore import needed_bundles, read_backup, restore_backup

    settings = _settings(config, data_dir, redis_url, set)
    manifest, documents = read_backup(file)
    missing = _check_bundles(settings, needed_bundles(documents))
    if check:
        refuse(context, "redis_url", "names a store, and --check reads the file alone")
        typer.echo(f"{file} is whole: {_summary(manifest)}, made at {manifest.created_at}")
        return

    async def work() -> None:
        store = build_store(settings)
        await store.open()
        try:
            with _lines("restored") as progress:
                await restore_backup(store, file, manifest, documents, progress)
        finally:
            await store.close()

    asyncio.run(work())
    typer.echo(f"restored {_summary(manifest)}, as of {manifest.created_at}")
    for bundle in missing:
        typer.echo(f"note: bundle {bundle} is not here; import or pull it before you start the service", err=True)


def _settings(
    config: Path | None, data_dir: Path | None, redis_url: str | None, others: list[str] | None
) -> "Settings":
    from bebr.cli.options import settings_from

    return settings_from(config, {"data_dir": data_dir, "redis_url": redis_url}, others or ())


def _check_bundles(settings: "Settings", needed: dict[str, str | None]) -> list[str]:
    """Ids of the bundles that are missing here. Raises Incompatible or DamagedBundle for one that is another."""
    from bebr.encoding import BundleRegistry, shipped_bundles
    from bebr.errors import BundleNotFound

    registry = BundleRegistry([settings.bundles_dir, shipped_bundles()])
    missing = []
    for bundle, fingerprint in needed.items():
        try:
            registry.get(bundle, fingerprint)
        except BundleNotFound:
            missing.append(bundle)
    return missing


def _summary(manifest: "Manifest") -> str:
    shards = [shard for collection in manifest.collections for shard in collection.shards]
    points = sum(shard.points or 0 for shard in shards)
    about = "at least " if any(shard.points is None for shard in shards) else ""
    return f"{len(manifest.collections)} collections, {about}{points:,} points"


@contextmanager
def _lines(done: str) -> Iterator["Progress"]:
    """A line on stderr for each collection that is begun, and every few seconds."""
    last, printed = "", 0.0

    def show(name: str, entries: int) -> None:
        nonlocal last, printed
        if name != last or time.monotonic() - printed >= LINE_EVERY_SECONDS:
            last, printed = name, time.monotonic()
            typer.echo(f"{name}: {entries:,} entries {done}", err=True)

    yield show
