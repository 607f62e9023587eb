"""Flags, BEBR_* variables and a TOML file -> Settings. Precedence: flags, environment, file, default.

Whatever is unknown or does not parse is an InvalidOption that names the culprit and the nearest known name.
"""

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bebr.config.settings import Settings
from bebr.config.values import Kind
from bebr.errors import InvalidOption

PREFIX = "BEBR_"
FILE_SUFFIX = "_FILE"
"""A variable that ends so names a file with the value of the setting."""
OTHER_VARIABLES = {
    "BEBR_CONFIG": "Path of the settings file (TOML).",
    "BEBR_KERNEL_ISA": "Force one implementation of the kernel: avx512, avx2 or portable.",
    "BEBR_URL": "Address where the command line finds the service.",
    "BEBR_API_KEY": "API key that the command line sends.",
    "BEBR_TO_API_KEY": "API key that `bebr copy` sends to the service it writes to.",
}
"""Variables that bebr reads, but that are not settings of the service."""


@dataclass(frozen=True)
class Loaded:
    """Settings, and where each value came from: 'flag', 'BEBR_PORT', the name of the file, or 'default'."""

    settings: Settings
    sources: dict[str, str]


def load_settings(
    flags: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None, file: Path | None = None
) -> Settings:
    """Settings from flags by field name (None: not given), environment and TOML file. Raises InvalidOption."""
    return load(flags, env, file).settings


def load(
    flags: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None, file: Path | None = None
) -> Loaded:
    """As `load_settings`, with the source of every value."""
    env = os.environ if env is None else env
    if file is None and env.get("BEBR_CONFIG"):
        file = Path(env["BEBR_CONFIG"]).expanduser()
    known = {setting.name: setting for setting in fields(Settings)}
    values: dict[str, Any] = {}
    sources = dict.fromkeys(known, "default")
    for name, value in _read_file(file, known).items():
        values[name] = _parse(known[name], value, f"{name} in '{file}'")
        sources[name] = str(file)
    for name, (variable, value) in _read_variables(env, known).items():
        values[name] = _parse(known[name], value, variable)
        sources[name] = variable
    for name, value in (flags or {}).items():
        if name not in known:
            raise _unknown(f"unknown setting '{name}'", name, known)
        if value is not None:
            values[name] = _parse(known[name], value, f"flag {name}")
            sources[name] = "flag"
    return Loaded(Settings(**values), sources)


def _read_file(path: Path | None, known: Mapping[str, Any]) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        given = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InvalidOption(f"the settings file '{path}' does not exist") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidOption(f"the settings file '{path}' cannot be read: {error}") from error
    for name in given:
        if name not in known:
            raise _unknown(f"unknown setting '{name}' in '{path}'", name, known)
    return given


def _read_variables(env: Mapping[str, str], known: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Settings that BEBR_* variables give: name -> variable and value."""
    variables = {PREFIX + name.upper(): name for name in known}
    found: dict[str, tuple[str, str]] = {}
    given = {name: value for name, value in env.items() if name.startswith(PREFIX) and name not in OTHER_VARIABLES}
    for name, value in given.items():
        if name.startswith(("BEBR_SERVICE_", "BEBR_PORT_")) or value.startswith("tcp://"):
            # Kubernetes sets these in every pod beside a Service of our name, and BEBR_PORT=tcp://... is one of them.
            raise InvalidOption(
                f"{name} was set by Kubernetes for a Service called 'bebr'; set `enableServiceLinks: false` in the pod",
                setting=name,
            )
        is_file = name not in variables and name.removesuffix(FILE_SUFFIX) in variables
        variable = name.removesuffix(FILE_SUFFIX) if is_file else name
        if variable not in variables:
            raise _unknown(f"unknown variable {name}", name, [*variables, *OTHER_VARIABLES])
        setting = variables[variable]
        if setting in found:
            raise InvalidOption(f"both {variable} and {variable}{FILE_SUFFIX} are set; keep one", setting=setting)
        found[setting] = name, _read_value(Path(value), name, setting) if is_file else value
    return found


def _read_value(path: Path, variable: str, setting: str) -> str:
    """The value in a file, such as a secret that Docker or Kubernetes mounts."""
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidOption(f"{variable}: '{path}' cannot be read: {error}", setting=setting) from error


def _parse(setting: Field[Any], value: Any, where: str) -> Any:
    kind: Kind = setting.metadata["kind"]
    try:
        return kind.parse(value)
    except (ValueError, TypeError):
        got = "" if setting.metadata["secret"] else f", got {value!r:.100}"
        raise InvalidOption(f"{where}: expected {kind.expected}{got}", setting=setting.name) from None


def _unknown(sentence: str, name: str, known: Iterable[str]) -> InvalidOption:
    close = get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    advice = f"did you mean {close[0]}?" if close else "`bebr config` lists them all"
    return InvalidOption(f"{sentence}; {advice}", setting=name)
