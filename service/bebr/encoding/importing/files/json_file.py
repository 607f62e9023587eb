"""JSON objects that other programs wrote: read whole, each field of its type. Raises InvalidCheckpoint naming both."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bebr.errors import InvalidCheckpoint


@dataclass(frozen=True)
class JsonFile:
    """The fields of one file of a checkpoint. Unknown fields are left alone; those that are asked for are checked."""

    name: str
    """Path within the checkpoint, for messages."""
    fields: Mapping[str, Any]

    def count(self, key: str, default: int | None = None, low: int = 1) -> int:
        """A whole number of at least `low`. Without a default the field has to be there."""
        value = self.fields.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            kind = "a positive integer" if low == 1 else f"an integer of at least {low}"
            raise self.wrong(key, f"must be {kind}")
        return value

    def number(self, key: str, default: float) -> float:
        """A positive number."""
        value = self.fields.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            raise self.wrong(key, "must be a positive number")
        return float(min(value, sys.float_info.max))  # an integer may be larger

    def flag(self, key: str) -> bool | None:
        """true or false; None where the field is missing or null."""
        value = self.fields.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "must be true or false")
        return value

    def text(self, key: str) -> str:
        """A text; empty where the field is missing or null."""
        value = self.fields.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "must be a text")
        return value or ""

    def object(self, key: str) -> "JsonFile":
        """The fields of an object; none where the field is missing or null."""
        value = self.fields.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(key, "must be an object")
        return JsonFile(f"{self.name} '{key}'", value or {})

    def refuse_unless(self, **expected: Any) -> None:
        """Raise InvalidCheckpoint where a field says anything but null or what is expected of it."""
        for key, value in expected.items():
            if self.fields.get(key) not in (None, value):
                raise self.unsupported(key, value)

    def unsupported(self, key: str, expected: Any) -> InvalidCheckpoint:
        """The error for a field that asks for what bebr does not do; expected: what it may say, None for nothing."""
        but = f", only {expected!r} is" if expected else ""
        return InvalidCheckpoint(f"{self.name}: {key} {self.fields[key]!r:.80} is not supported{but}", file=self.name)

    def wrong(self, key: str, expected: str) -> InvalidCheckpoint:
        """The error for a field."""
        return InvalidCheckpoint(f"{self.name}: {key} {expected}, got {self.fields.get(key)!r:.80}", file=self.name)


def read_json_file(folder: Path, name: str) -> JsonFile:
    """The JSON object in a file of the checkpoint. Raises InvalidCheckpoint where it is missing or no object."""
    value = read_json(folder, name)
    if not isinstance(value, dict):
        raise InvalidCheckpoint(f"{name}: expected an object, got {type(value).__name__}", file=name)
    return JsonFile(name, value)


def read_optional(folder: Path, name: str) -> JsonFile:
    """As `read_json_file`; no fields where the file is missing."""
    return read_json_file(folder, name) if (folder / name).is_file() else JsonFile(name, {})


def read_json(folder: Path, name: str) -> Any:
    """What the file holds. Raises InvalidCheckpoint where it is missing or is not JSON."""
    try:
        return json.loads(read_bytes(folder, name))
    except RecursionError as error:
        raise InvalidCheckpoint(f"{name} is not valid JSON: it is nested too deeply", file=name) from error
    except ValueError as error:
        raise InvalidCheckpoint(f"{name} is not valid JSON: {error}", file=name) from error


def read_bytes(folder: Path, name: str) -> bytes:
    """The content of a file of the checkpoint. Raises InvalidCheckpoint where it is missing."""
    return existing(folder, name).read_bytes()


def existing(folder: Path, name: str) -> Path:
    """The path of a file of the checkpoint. Raises InvalidCheckpoint where it is missing or leads out of the folder."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) and not path.is_symlink():
        raise InvalidCheckpoint(f"{name!r} is outside the folder of the checkpoint", file=name)
    if not path.is_file():
        raise InvalidCheckpoint(f"{folder} has no {name}", file=name)
    return path
