"""The command line. Each command is a module that imports what it needs when it is called, so that `--help` is instant.

app        the commands, and how errors end them: one clear line, exit code 1; wrong usage is 2
output     tables, progress bars, JSON
service    a running service: socket, server, signals
"""

from bebr.cli.app import main

__all__ = ["main"]
