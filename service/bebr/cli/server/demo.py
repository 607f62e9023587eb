"""`bebr demo`: the service with a collection of real text to try it on."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bebr.cli.options import ConfigFile, DataDir
from bebr.cli.server.serve import Host, Port, RedisUrl, Set

if TYPE_CHECKING:
    from bebr.client import Client
    from bebr.config import Settings

NOTE = "python-docs.filled"


def demo(
    points: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of docstrings.", show_default="4000")
    ] = None,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Instead, change the model of a collection step by step, then exit.")
    ] = False,
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    config: ConfigFile = None,
    set: Set = None,
) -> None:
    """Start the service and, the first time, fill the collection python-docs with the docstrings of this Python.

    With --upgrade, create a second collection with an older model and upgrade it to a newer one, command by command, as
    docs/upgrading.md explains. That takes several minutes and needs the extra [train].
    """
    from bebr.cli.options import settings_from
    from bebr.cli.server.serve import run

    flags = {"host": host, "port": port, "data_dir": data_dir, "redis_url": redis_url}
    settings = settings_from(config, flags, set or ())
    _pull_model(settings)
    if upgrade:
        from bebr.cli.server.demo_upgrade import upgrade as run_upgrade

        run_upgrade(settings, points)
        return
    run(settings, lambda url: _fill_and_report(url, settings, points))


def _pull_model(settings: "Settings") -> None:
    """Import the demo's model unless it is there already."""
    from bebr.cli.models.bundles import making_progress
    from bebr.demo.fill import MODEL
    from bebr.encoding.importing.pull import pull

    with making_progress() as show:
        pull(MODEL, settings.bundles_dir, progress=show)


def _fill_and_report(url: str, settings: "Settings", points: int | None) -> None:
    from bebr.cli.output import err
    from bebr.cli.server.serve import ready_text
    from bebr.client import Client

    with Client(url, api_key=next(iter(settings.api_keys), None), timeout_seconds=120) as client:
        _fill(client, settings, points)
        description = client.describe_collection("python-docs")
    err().print(ready_text(url, settings))
    err().print(_hints(url, settings, description["points"]), highlight=False, soft_wrap=True)


def _fill(client: "Client", settings: "Settings", points: int | None) -> None:
    from bebr.cli.output import err, progress
    from bebr.demo.fill import COLLECTION, POINTS, fill, is_filled

    note = settings.data_dir / NOTE
    if is_filled(client, note):
        return
    err().print(f"filling [bold]{COLLECTION}[/] with the docstrings of this Python (only the first time)")
    with progress() as bar:
        task = bar.add_task("reading docstrings", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description="embedding")

        fill(client, note, points or POINTS, show)


def _hints(url: str, settings: "Settings", points: int) -> str:
    import json

    from bebr.cli.options import service_url
    from bebr.config import Settings
    from bebr.demo.fill import COLLECTION, QUESTION

    bebr = _program()
    elsewhere = "" if url == service_url(Settings()) else f" --url {url}"
    key = " -H 'authorization: Bearer <key>'" if settings.api_keys else ""
    body = json.dumps({"text": QUESTION, "limit": 3})
    curl = f"curl -s {url}/v1/collections/{COLLECTION}/search{key} -H 'content-type: application/json' -d '{body}'"
    return (
        f"{points:,} docstrings are searchable. Try in another terminal:\n\n"
        f'  {bebr} search "{QUESTION}"{elsewhere}\n'
        f'  {bebr} search "read a zip file" --filter kind=class{elsewhere}\n'
        f"  {curl}\n\n"
        f"Ctrl-C stops the service; `{bebr} demo` starts it again without filling it."
    )


def _program() -> str:
    """The command that runs this program: `bebr`, or its path where a shell would not find it."""
    typed = Path(sys.argv[0]).absolute()
    if typed.name != "bebr" or shutil.which("bebr") == str(typed):
        return "bebr"
    return str(typed.relative_to(Path.cwd()) if typed.is_relative_to(Path.cwd()) else typed)
