"""`bebr models`: the bundles on hand, and how new ones get there."""

import sys
from typing import TYPE_CHECKING

import typer

from bebr.cli.options import AsJson, ConfigFile, DataDir

if TYPE_CHECKING:
    from pathlib import Path

    from bebr.encoding import BundleCatalog

app = typer.Typer(help="List, fetch, import and verify bundles.", no_args_is_help=True)


@app.command("list")
def list_(data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the bundles on hand: those of the data folder and those that come with bebr."""
    from bebr.cli.output import out, print_json, table

    catalog = _catalog(data_dir, config)
    bundles, damaged = catalog.list(), catalog.damaged()
    if as_json:
        described = [{**bundle.describe(), "path": str(bundle.path)} for bundle in bundles]
        print_json({"bundles": described, "damaged": {name: error.detail for name, error in damaged.items()}})
        return
    rows = table("bundle", "code", "bytes", "dims", "text", "folder", right=("bytes", "dims"))
    for bundle in bundles:
        size = str(bundle.spec.code_size_bytes) if bundle.has_binarizer else "-"
        text = "yes" if bundle.has_embedding_model else "no"
        code = str(bundle.spec) if bundle.has_binarizer else "-"
        rows.add_row(bundle.id, code, size, str(bundle.embedding_dims), text, str(bundle.path))
    for name, error in damaged.items():
        rows.add_row(name, f"[red]damaged:[/] {error.detail}")
    out().print(rows if bundles or damaged else "no bundles yet; get one with `bebr models pull minilm`")


@app.command()
def verify(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Check the SHA-256 of every file of every bundle. Exit code 1 when one is damaged."""
    from bebr.cli.output import out
    from bebr.errors import DamagedBundle

    catalog = _catalog(data_dir, config)
    broken = {name: error.detail for name, error in catalog.damaged().items()}
    for bundle in catalog.list():
        try:
            catalog.get(bundle.id)
        except DamagedBundle as error:
            broken[bundle.id] = error.detail
        else:
            out().print(f"[green]sound[/]    {bundle.id}  {bundle.fingerprint[:16]}  {bundle.path}")
    for name, detail in broken.items():
        out().print(f"[red]damaged[/]  {name}  {detail}")
    if broken:
        sys.exit(1)


def _catalog(data_dir: "Path | None", config: "Path | None") -> "BundleCatalog":
    from bebr.cli.options import settings_from
    from bebr.encoding import BundleCatalog, shipped_bundles

    settings = settings_from(config, {"data_dir": data_dir})
    return BundleCatalog([settings.bundles_dir, shipped_bundles()])
