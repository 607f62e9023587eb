"""Options that several commands share, and how their values are read."""

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from bebr.errors import InvalidFilter, InvalidOption

if TYPE_CHECKING:
    from bebr.client import Client
    from bebr.config import Settings
    from bebr.core.types import FieldType

Choice = TypeVar("Choice", bound=StrEnum)

API_KEY_VARIABLE = "BEBR_API_KEY"

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="BEBR_URL", help="URL of the service.", show_default="BEBR_HOST, BEBR_PORT"),
]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", envvar=API_KEY_VARIABLE, show_envvar=True, help="API key of the service.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", envvar="BEBR_CONFIG", help="Settings file (TOML).", dir_okay=False)
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder for everything that the service stores.", show_default="bebr-data"),
]


def refuse(context: typer.Context, parameter: str, reason: str) -> None:
    """Raise InvalidOption where an option of this command was typed that does nothing beside the others. A variable
    may be set all the same: it is there for other commands too."""
    source = context.get_parameter_source(parameter)
    if source is not None and source.name == "COMMANDLINE":
        option = "--" + parameter.replace("_", "-")
        raise InvalidOption(f"{option} {reason}", option=option)


def client(url: str | None, api_key: str | None, retries: int = 2) -> "Client":
    """A client of the service that the options or the environment name."""
    from bebr.client import Client

    if api_key and api_key != os.environ.get(API_KEY_VARIABLE):
        _warn_of_secret("--api-key", API_KEY_VARIABLE)
    return Client(url or default_url(), api_key=api_key, timeout_seconds=60.0, retries=retries)


def default_url() -> str:
    """The address that `bebr serve` would listen on in the same environment."""
    from bebr.config import load_settings

    return service_url(load_settings())


def service_url(settings: "Settings") -> str:
    """The address of a service with these settings, for a client on the same machine."""
    return local_url(settings.host, settings.port)


def local_url(host: str, port: int) -> str:
    """The address of a service that listens on `host`, for a client on the same machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def settings_from(file: Path | None, flags: Mapping[str, Any], others: Sequence[str] = ()) -> "Settings":
    """Settings from a command's own flags and its `--set name=value` options."""
    from bebr.config import load_settings
    from bebr.config.settings import setting_fields

    given = dict(flags)
    for other in others:
        name, equals, value = other.partition("=")
        if not equals:
            raise InvalidOption(f"--set expects name=value, got '{other}'")
        given[name.strip().lower().removeprefix("bebr_")] = value
    for setting in setting_fields():
        secret = given.get(setting.name) if setting.metadata["secret"] else None
        if secret and ("@" in secret or setting.name != "redis_url"):
            _warn_of_secret(f"the flag for {setting.name}", f"BEBR_{setting.name.upper()}")
    return load_settings(given, os.environ, file)


def _warn_of_secret(flag: str, variable: str) -> None:
    typer.echo(f"note: everyone on this machine can read the value of {flag}; set {variable} instead", err=True)


def parse_choice(kind: type[Choice], given: str, option: str) -> Choice:
    """The member of a StrEnum with this value. Raises InvalidOption that lists all values."""
    try:
        return kind(given)
    except ValueError:
        raise InvalidOption(f"{option}: expected one of {', '.join(kind)}, got '{given}'") from None


def confirm(what: str, yes: bool) -> None:
    """Ask on a terminal whether to do it; elsewhere --yes must say so. Raises InvalidOption, typer.Abort."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidOption(f"this would {what}; give --yes to do it", option="yes")
    typer.confirm(f"{what[0].upper()}{what[1:]}?", abort=True, err=True)


def parse_fields(given: Sequence[str], drops: bool = False) -> "dict[str, FieldType | None] | Literal['auto']":
    """The fields of all options such as price=float,category=keyword; or auto. Raises InvalidOption.

    drops: whether a field may be none, which is None here.
    """
    from bebr.core.types import FieldType

    parts = [part.strip() for option in given for part in option.split(",")]
    if parts == ["auto"]:
        return "auto"
    fields: dict[str, FieldType | None] = {}
    for part in parts:
        key, equals, kind = part.rpartition("=")
        if not equals or not key:
            raise InvalidOption(f"--filterable expects field=type, such as price=float, or auto alone, got '{part}'")
        if key in fields:
            raise InvalidOption(f"--filterable names the field '{key}' twice")
        is_dropped = drops and kind == "none"
        fields[key] = None if is_dropped else parse_choice(FieldType, kind, f"--filterable {key}")
    return fields


def parse_filter(given: Sequence[str]) -> dict[str, Any] | None:
    """The filter of all --filter options: each is a JSON filter of the API or `key=value`. Raises InvalidFilter.

    A value that looks like a number, true or false is one; anything else is a keyword, and so is a value in double
    quotes: year='"2020"'.
    """
    conditions: list[Any] = []
    for text in given:
        if text.lstrip().startswith("{"):
            try:
                conditions.append(json.loads(text))
            except (ValueError, RecursionError) as error:
                raise InvalidFilter(f"the filter is not valid JSON: {error}") from None
            continue
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InvalidFilter(f"expected a filter as key=value or as a JSON object, got '{text}'")
        conditions.append({"key": key, "match": {"value": _scalar(value)}})
    if len(conditions) == 1 and given[0].lstrip().startswith("{"):
        whole: dict[str, Any] = conditions[0]
        return whole
    return {"must": conditions} if conditions else None


def _scalar(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, float) and not math.isfinite(value):
        return text  # JSON has no such number
    return value if isinstance(value, str | int | float | bool) else text
