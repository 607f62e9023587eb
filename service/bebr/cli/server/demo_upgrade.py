"""`bebr demo --upgrade`: changes the model of a collection with the same commands that a user would type."""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bebr.cli.output import out, progress
from bebr.cli.server.running import Service
from bebr.cli.server.starting import configure_logs
from bebr.client import Client
from bebr.config import Settings
from bebr.demo.fill import POINTS
from bebr.demo.upgrade import COLLECTION, OLD, Files, make_old, steps, write_files
from bebr.errors import CollectionNotFound

FOLDER = "upgrade-demo"
_PROGRAM = (sys.executable, "-c", "from bebr.cli import main; main()")


def upgrade(settings: Settings, points: int | None, training: Sequence[str] = ()) -> None:
    """Explain, print and run each step; the first one that fails ends the demo with its exit code.

    Bundles of an earlier run are reused; the collection is created again. training: extra arguments of `bebr
    train-adapter`.
    """
    configure_logs(settings.log_level, settings.log_format)
    files = _prepare(settings, points or POINTS)
    key = next(iter(settings.api_keys), None)
    with Service(settings) as service:
        with Client(service.url, api_key=key) as client, suppress(CollectionNotFound):
            client.delete_collection(COLLECTION)
        environment = {"BEBR_URL": service.url, "BEBR_BUNDLES_DIR": str(settings.bundles_dir)}
        environment |= {"BEBR_API_KEY": key} if key else {}
        for step in steps(files, settings.bundles_dir, training):
            _run(step.description, step.arguments, environment)
    out().print(f"\npictures: {files.picture}, {files.judged_picture}", markup=False)


def _prepare(settings: Settings, points: int) -> Files:
    files, texts = write_files(_relative(settings.data_dir) / FOLDER, points)
    with progress() as bar:
        task = bar.add_task(f"creating the old model {OLD}", total=None)
        make_old(settings.bundles_dir, texts, lambda done, total, _: bar.update(task, completed=done, total=total))
    return files


def _relative(folder: Path) -> Path:
    """The folder relative to the current one, where it is inside it."""
    folder = folder.absolute()
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _run(description: str, arguments: Sequence[str], environment: dict[str, str]) -> None:
    out().print(f"\n[bold]{description}[/]\n[cyan]$ bebr {shlex.join(arguments)}[/]")
    sys.stdout.flush()
    code = subprocess.run([*_PROGRAM, *arguments], env=os.environ | environment, check=False).returncode
    if code:
        sys.exit(code)
