"""The command line. Each command is a module that imports what it needs when it is called, so that `--help` is instant.

app         the commands, and how errors end them: one clear line, exit code 1; wrong usage is 2
options     options that several commands share, and how they are read
output      tables, progress bars, JSON
reference   writes docs/cli.md from the commands
server/     serve, demo, config
points/     ingest, search, inspect, export, import, copy
files/      what ingest reads
daily/      collection, points, alias, jobs
models/     models, fit, train, evaluate
versions/   upgrade
"""

import sys

try:
    from bebr.cli.app import main
except ModuleNotFoundError as error:
    if error.name not in ("typer", "rich"):
        raise
    # `pip install bebr` is the client alone, and installs this command all the same.
    sys.exit(
        f"error: the command line needs '{error.name}', which comes with the extra [server]: pip install '.[server]'"
    )

__all__ = ["main"]
