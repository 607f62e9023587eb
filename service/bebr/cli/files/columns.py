"""Which columns of a file are ids, texts and vectors. All others are metadata.

Columns that no option names are found by their names: `id` or `_id`; `text`; `embedding`, `vector` or `emb`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bebr.core.rows import typed
from bebr.core.types import FieldType
from bebr.errors import InvalidId, InvalidOption

ID_NAMES = ("id", "_id")
TEXT_NAMES = ("text",)
VECTOR_NAMES = ("embedding", "vector", "emb")
JOINT = "\n"
"""Between the texts of several columns."""
SHOWN_COLUMNS = 8


@dataclass(frozen=True, slots=True)
class FileOptions:
    """What the caller says of the files."""

    id_field: str | None = None
    """Column of the ids."""
    text_fields: tuple[str, ...] = ()
    """Columns of the texts, which are joined."""
    vector_field: str | None = None
    """Column of the vectors."""
    flat: bool = False
    """Whether the keys of JSON objects are columns."""
    delimiter: str | None = None
    """Between the cells of a text file."""
    ids: str | None = None
    """File with the ids of vectors."""

    def given(self) -> list[str]:
        """The options that were given."""
        options = {
            "--id-field": self.id_field,
            "--text-field": self.text_fields,
            "--vector-field": self.vector_field,
            "--flat": self.flat,
            "--delimiter": self.delimiter,
            "--ids": self.ids,
        }
        return [name for name, value in options.items() if value]


NO_OPTIONS = FileOptions()
COLUMN_OPTIONS = ("--id-field", "--text-field", "--vector-field")


@dataclass(frozen=True, slots=True)
class Target:
    """What a collection makes of columns."""

    fields: Mapping[str, FieldType] = field(default_factory=dict)
    """Its filterable fields."""
    text_field: str | None = None
    """The metadata field in which it keeps texts."""


class Columns:
    """The columns of one file. Raises InvalidOption where a column is not there, or none can be a code's source."""

    def __init__(self, names: Sequence[str], options: FileOptions) -> None:
        self.names = list(names)
        self.id = self._one(options.id_field, ID_NAMES, "--id-field")
        self.vector = self._one(options.vector_field, VECTOR_NAMES, "--vector-field")
        self.texts = [self._check(name, "--text-field") for name in options.text_fields]
        if not self.texts:
            self.texts = [name for name in TEXT_NAMES if name in self.names]
        if not self.texts and self.vector is None:
            raise InvalidOption(
                f"there is no column 'text', only {', '.join(self.names)}; name the column with --text-field, or that "
                "of vectors with --vector-field",
                column="text",
            )
        self._id_is_number: bool | None = None
        taken = {self.id, self.vector}
        if self.vector is None and len(self.texts) == 1:
            taken.add(self.texts[0])
        self._taken = taken

    def said(self) -> str:
        """What was taken from where."""
        ids = f"ids from '{self.id}'" if self.id is not None else "ids are numbers of rows"
        texts = " and ".join(f"'{name}'" for name in self.texts)
        source = f"vectors from '{self.vector}'" if self.vector is not None else f"texts from {texts}"
        rest = [name for name in self.names if name not in self._taken]
        shown = ", ".join(rest[:SHOWN_COLUMNS]) + (
            f" and {len(rest) - SHOWN_COLUMNS} more" if rest[SHOWN_COLUMNS:] else ""
        )
        return f"{ids}, {source}, {f'metadata: {shown}' if rest else 'no metadata'}"

    def point(self, row: Mapping[str, Any], number: int, target: Target) -> dict[str, Any]:
        """One row as a point. number: its id where there is no column of ids. Raises InvalidId, InvalidVector."""
        metadata = {
            name: value_of(value, target.fields.get(name))
            for name, value in row.items()
            if name not in self._taken and value is not None
        }
        point: dict[str, Any] = {"id": str(number) if self.id is None else self._id_of(row.get(self.id))}
        text = JOINT.join(str(row[name]) for name in self.texts if row.get(name) not in (None, ""))
        if self.vector is None:
            point["text"] = text
        else:
            point["vector"] = row.get(self.vector)
            if target.text_field is not None and text:
                metadata.setdefault(target.text_field, text)
        point["metadata"] = metadata
        return point

    def _id_of(self, value: Any) -> Any:
        """Whole numbers as strings, where the whole file has such ids: 7 and "7" are never the same point unsaid."""
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if self._id_is_number is None:
            self._id_is_number = is_number
        if is_number != self._id_is_number and value is not None:
            kind = "whole numbers" if self._id_is_number else "strings"
            raise InvalidId(f"the ids of this file are {kind}, as the first one is, got {value!r:.80}", id=value)
        return str(value) if is_number else value

    def _one(self, given: str | None, usual: Sequence[str], option: str) -> str | None:
        if given is not None:
            return self._check(given, option)
        return next((name for name in usual if name in self.names), None)

    def _check(self, column: str, option: str) -> str:
        if column not in self.names:
            raise InvalidOption(
                f"there is no column '{column}', only {', '.join(self.names)}; name the column with {option}",
                column=column,
            )
        return column


def value_of(value: Any, kind: FieldType | None) -> Any:
    """A value of a column as the type of its filterable field, where it can be read as such."""
    if kind is None:
        return value
    if isinstance(value, str):
        return typed(value, kind)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number and kind is FieldType.KEYWORD else value
