"""Reads the fields of manifest.json strictly: each of its type, none missing, none left over."""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar, cast

from bebr.errors import DamagedBundle

MAX_NUMBER = 1e6

E = TypeVar("E", bound=StrEnum)
Parsed = TypeVar("Parsed")


class Reader:
    """Takes typed fields out of a JSON object, naming the place in every error; `done` refuses what is left over."""

    def __init__(self, value: object, where: str) -> None:
        self.where = where
        if not isinstance(value, dict):
            raise self.error(f"expected an object, got {type(value).__name__}")
        self._left = cast(dict[str, Any], dict(value))

    def error(self, message: str) -> DamagedBundle:
        return DamagedBundle(f"{self.where}: {message}", file="manifest.json")

    def take(self, key: str, kind: type) -> Any:
        if key not in self._left:
            raise self.error(f"field '{key}' is missing")
        value = self._left.pop(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(f"field '{key}' must be {kind.__name__}, got {value!r:.80}")
        return value

    def has(self, key: str) -> bool:
        return key in self._left

    def count(self, key: str) -> int:
        value: int = self.take(key, int)
        if value < 1:
            raise self.error(f"field '{key}' must be at least 1, got {value}")
        return value

    def match(self, key: str, pattern: re.Pattern[str]) -> str:
        value: str = self.take(key, str)
        if not pattern.fullmatch(value):
            raise self.error(f"field '{key}' must match {pattern.pattern}, got {value!r:.80}")
        return value

    def enum(self, key: str, kind: type[E]) -> E:
        return self.one_of(key, {str(member): member for member in kind})

    def one_of(self, key: str, values: Mapping[str, Parsed]) -> Parsed:
        """The value of the name that the field holds."""
        name: str = self.take(key, str)
        if name not in values:
            raise self.error(f"field '{key}' must be one of {', '.join(values)}, got {name!r:.80}")
        return values[name]

    def reader(self, key: str) -> "Reader":
        return Reader(self.take(key, dict), f"{self.where} '{key}'")

    def optional(self, key: str, parse: Callable[["Reader"], Any]) -> Any:
        """None where the field is null, else what `parse` makes of the object."""
        if key in self._left and self._left[key] is None:
            del self._left[key]
            return None
        return self.object(key, parse)

    def object(self, key: str, parse: Callable[["Reader"], Parsed]) -> Parsed:
        """What `parse` makes of the object."""
        reader = self.reader(key)
        value = parse(reader)
        reader.done()
        return value

    def number(self, key: str) -> float:
        """A positive number."""
        value = self._left.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < MAX_NUMBER:
            raise self.error(f"field '{key}' must be a positive number, got {value!r:.80}")
        del self._left[key]
        return float(value)

    def list_of(self, key: str, parse: Callable[["Reader"], Parsed]) -> tuple[Parsed, ...]:
        """What `parse` makes of each object of an array; empty where the field is missing."""
        if key not in self._left:
            return ()
        readers = [Reader(value, f"{self.where} '{key}'") for value in self.take(key, list)]
        parsed = tuple(parse(reader) for reader in readers)
        for reader in readers:
            reader.done()
        return parsed

    def rest(self) -> dict[str, Any]:
        return dict(self._left)

    def done(self) -> None:
        if self._left:
            raise self.error(
                f"unknown field {', '.join(map(repr, sorted(self._left)))}; was it written by a newer bebr?"
            )
