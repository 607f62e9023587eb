"""The commands of `bebr` and their exit codes: 0 success, 1 failure with one line that says why, 2 wrong usage."""

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

import bebr
from bebr.cli.bulk import encode
from bebr.cli.daily import alias, collection, jobs, points
from bebr.cli.models import bundles, evaluate, fit, train, train_adapter
from bebr.cli.points import ingest, inspect, search, transfer
from bebr.cli.server import backup, config, demo, serve, verify
from bebr.cli.versions import upgrade
from bebr.errors import BebrError

app = typer.Typer(
    name="bebr",
    help="Binary-embedding search: 64 bytes per point, versioned codes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("ingest")(ingest.ingest)
app.command("encode")(encode.encode)
app.command("search")(search.search)
app.command("export")(transfer.export)
app.command("import")(transfer.import_)
app.command("copy")(transfer.copy)
app.add_typer(bundles.app, name="models")
app.command("fit")(fit.fit)
app.add_typer(collection.app, name="collection")
app.add_typer(points.app, name="points")
app.add_typer(alias.app, name="alias")
app.add_typer(jobs.app, name="jobs")
app.command("train")(train.train)
app.command("train-adapter")(train_adapter.train_adapter)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(upgrade.app, name="upgrade")
app.command("inspect")(inspect.inspect)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("verify")(verify.verify)
app.command("config")(config.config)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bebr {bebr.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Binary-embedding search: 64 bytes per point, versioned codes."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit."""
    try:
        app(arguments)
    except BebrError as error:
        _fail(error.detail)
    except BrokenPipeError:
        # The reader of the pipe closed it, as in `bebr search ... | head`.
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        # A file or folder that cannot be read or written: the system's own message is clear.
        _fail(f"{error.strerror or error}: '{error.filename}'" if error.filename else str(error))


def _fail(detail: str) -> NoReturn:
    typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(detail, err=True)
    sys.exit(1)
