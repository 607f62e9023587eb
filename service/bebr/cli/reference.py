"""The page docs/cli.md, written from the commands themselves: `python -m bebr.cli.reference > docs/cli.md`."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from bebr.cli.app import app

_HEAD = """\
# Command line

<!-- Written by `python -m bebr.cli.reference`; a test holds it. -->

Results go to stdout, progress and notes to stderr; `--json` prints one JSON document instead of a table. Exit code 0:
done; 1: not done, with one line that says why; 2: wrong usage. `BEBR_URL` and `BEBR_API_KEY` stand in for `--url` and
`--api-key`.
"""


def markdown() -> str:
    """The text of docs/cli.md."""
    lines = [_HEAD]
    for name, callback in commands(app, "bebr"):
        parameters = list(_parameters(callback))
        arguments = [parameter for parameter in parameters if isinstance(parameter[1], ArgumentInfo)]
        rows = [_row(*parameter) for parameter in parameters]
        lines += [f"## `{' '.join([name, *(_written(*argument) for argument in arguments)])}`", ""]
        lines += [_paragraphs(callback.__doc__ or ""), ""]
        if rows:
            lines += ["| Option | Meaning |", "|---|---|", *rows, ""]
    return "\n".join(lines).rstrip() + "\n"


def commands(group: typer.Typer, path: str) -> Iterator[tuple[str, Callable[..., None]]]:
    """(full name, function) of every command below a group."""
    for command in group.registered_commands:
        assert command.callback is not None
        yield f"{path} {command.name or command.callback.__name__}", command.callback
    for child in group.registered_groups:
        assert child.typer_instance is not None
        yield from commands(child.typer_instance, f"{path} {child.name}")


Parameter = tuple[inspect.Parameter, ArgumentInfo | OptionInfo, Any]


def _parameters(callback: Callable[..., None]) -> Iterator[Parameter]:
    """(parameter, what typer was told about it, its type)."""
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        kind, info = get_args(hints[name])
        yield parameter, info, kind


def _row(parameter: inspect.Parameter, info: ArgumentInfo | OptionInfo, kind: Any) -> str:
    default = info.show_default if isinstance(info.show_default, str) else parameter.default
    shown = "" if default in (inspect.Parameter.empty, None, False) else f" Default: `{default}`."
    return f"| `{_written(parameter, info, kind)}` | {info.help}{shown} |"


def _written(parameter: inspect.Parameter, info: ArgumentInfo | OptionInfo, kind: Any) -> str:
    """How it is typed: FILE, [TARGET], --limit, -n INTEGER."""
    if isinstance(info, ArgumentInfo):
        name = parameter.name.upper()
        return name if parameter.default is inspect.Parameter.empty else f"[{name}]"
    # typer takes the first positional argument of Option for a default, until it meets it inside Annotated
    declared = [flag for flag in (info.default, *(info.param_decls or ())) if isinstance(flag, str)]
    flags = ", ".join(declared or [f"--{parameter.name.replace('_', '-')}"])
    return flags if kind is bool else f"{flags} {info.metavar or _kind_name(kind)}"


def _kind_name(kind: Any) -> str:
    names = {int: "INTEGER", str: "TEXT", float: "NUMBER"}
    kinds = [kind, *get_args(kind), *(inner for part in get_args(kind) for inner in get_args(part))]
    return next((names[part] for part in kinds if part in names), "PATH")


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


if __name__ == "__main__":
    print(markdown(), end="")
