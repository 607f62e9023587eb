"""How one setting is written: sizes, durations, booleans, keys. Pure; `settings` says which field is of which kind."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

N = TypeVar("N", int, float)

_SIZE_UNITS: dict[str, int] = {"": 1, "b": 1} | {
    f"{letter}{ending}": base ** (power + 1)
    for power, letter in enumerate("kmgt")
    for ending, base in (("b", 1000), ("i", 1024), ("ib", 1024))
}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
NONE = "none"
"""A value that says so: no keys, no Redis."""
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Kind:
    """How a value is read. `parse` raises ValueError or TypeError; `expected` then says what would have been right."""

    expected: str
    parse: Callable[[Any], Any]


def integer(low: int, high: int = 2**53) -> Kind:
    """A whole number from `low` to `high`; underscores may group digits."""

    def parse(value: object) -> int:
        if not isinstance(value, int | str) or isinstance(value, bool):
            raise TypeError
        return _within(int(value), low, high)

    return Kind(f"a whole number from {low}" + (f" to {high}" if high < 2**53 else ""), parse)


def size(low: int) -> Kind:
    """A number of bytes: 1048576, 64MiB, 2GB."""

    def parse(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            return _within(value, low, 2**60)
        number, unit = _number_and_unit(value)
        return _within(int(number * _SIZE_UNITS[unit]) if unit in _SIZE_UNITS else -1, low, 2**60)

    return Kind(f"a size such as 64MiB or 1048576, at least {low} bytes", parse)


def choice(members: type[StrEnum]) -> Kind:
    """One member of a StrEnum."""
    return Kind("one of " + ", ".join(members), lambda value: members(str(value).lower()))


def choices(members: type[StrEnum]) -> Kind:
    """Members of a StrEnum, separated by commas, each once; at least one."""

    def parse(value: object) -> tuple[StrEnum, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            raise TypeError
        found = tuple(members(str(part).strip().lower()) for part in parts)
        if not found or len(set(found)) < len(found):
            raise ValueError
        return found

    return Kind("one or several of " + ", ".join(members) + ", separated by commas", parse)


def _duration(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(_within(value, 0.001, 1e9))
    number, unit = _number_and_unit(value)
    return float(_within(number * _SECONDS.get(unit, -1.0), 0.001, 1e9))


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _BOOLEANS:
        return _BOOLEANS[value.lower()]
    raise ValueError


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value.strip()


def _keys(value: object) -> tuple[str, ...]:
    """'a,b' or a list of strings; a key with spaces is more likely a mistake than a key.

    An empty variable is an error: a secret that was not filled in must not leave the service open.
    """
    if value == NONE:
        return ()
    parts = value.rstrip(",").split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise TypeError
    keys = tuple(_text(part) for part in parts)
    if any(re.search(r"\s", key) for key in keys):
        raise ValueError
    return keys


def _redis_url(value: object) -> str | None:
    """'none' switches Redis off, so that a variable can undo what a file says; an empty one was not filled in."""
    if value == NONE:
        return None
    url = _text(value)
    parts = urlsplit(url)
    for host in parts.netloc.rpartition("@")[2].split(","):  # of several nodes of a cluster
        node = parts._replace(netloc=host)
        is_named = parts.path if parts.scheme == "unix" else node.hostname
        if parts.scheme not in ("redis", "rediss", "unix") or not is_named or node.port == 0:
            raise ValueError  # `port` raises it too, where a password holds a slash that was not escaped
    return url


BOOLEAN = Kind("true or false", _boolean)
TEXT = Kind("a text that is not empty", _text)
FOLDER = Kind(
    "the path of a folder", lambda value: Path(_text(value) if not isinstance(value, Path) else value).expanduser()
)
KEYS = Kind("keys without spaces, separated by commas, or none", _keys)
NAMES = Kind("names without spaces, separated by commas, or none", _keys)
DURATION = Kind("a duration such as 5s, 500ms or 2h, at least 1ms", _duration)
REDIS_URL = Kind(
    "an address such as redis://host:6379/0, redis://node1:6379,node2:6379, rediss://..., unix:///path or none",
    _redis_url,
)


def human_size(size_bytes: int) -> str:
    """67108864 -> '64MiB'; a size that is no whole number of units stays bytes. `size` reads back the same number."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size_bytes and size_bytes % 1024**power == 0:
            return f"{size_bytes // 1024**power}{unit}"
    return str(size_bytes)


def _number_and_unit(value: object) -> tuple[float, str]:
    match = re.fullmatch(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError
    return float(match[1].replace("_", "")), match[2].lower()


def _within(number: N, low: float, high: float) -> N:
    if not low <= number <= high:
        raise ValueError
    return number
