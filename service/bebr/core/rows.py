"""Rows of CSV, TSV and text. A row that a strict reader would stumble over is rejected with its line and the reason;
nothing is guessed.

CSV is that of RFC 4180 with one line of column names. Cells of filterable fields are read by their type (`typed`),
other cells are strings. A cell that does not have its type stays a string, which the service refuses.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bebr.core.decoding import BOM, MAX_LINE_BYTES, Overlong, parse_line, split_lines
from bebr.core.types import FieldType
from bebr.errors import BebrError, InvalidOption, Malformed, PayloadTooLarge

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,350})(?P<real>\.[0-9]+)?(?P<power>[eE][+-]?[0-9]+)?")
_BOOLS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file."""

    line: int
    """The number of its first line, from 1."""
    point: Mapping[str, Any] | bytes | BebrError
    """What it says, perhaps as JSON; or why it was rejected."""


class CsvRows:
    """The rows of a CSV file after its column names, which are read and checked at once.

    Raises InvalidOption or Malformed where the names cannot be used.
    """

    def __init__(self, pieces: Iterable[bytes], delimiter: str = ",") -> None:
        """delimiter: one character."""
        self._lines = split_lines(pieces)
        self._line = 0
        self._delimiter, end = delimiter, re.escape(delimiter)
        cell = rf'(?:[^"{end}\r\n]*|"(?>[^"]+|"")*+")'
        self._row = re.compile(rf"{cell}(?:{end}{cell})*")
        self._cell = re.compile(rf'(?:^|{end})(?:"((?>[^"]+|"")*+)"|([^"{end}]*))')
        self.columns = self._read_columns()

    def rows(self) -> Iterator[Row]:
        """All rows, as cells by the names of their columns. Raises Malformed where the rest of the file cannot be told
        apart."""
        return (row for _, row in self.numbered(lambda _: True))

    def numbered(self, has: Callable[[int], bool]) -> Iterator[tuple[int, Row]]:
        """The same with the number of each row, from 0; those that `has` does not name are left out, unread."""
        row = -1
        while (found := self._next_row()) is not None:
            line, raw = found
            if not raw:
                continue
            row += 1
            if not has(row):
                continue
            try:
                yield row, Row(line, self._named(self._cells(raw)))
            except BebrError as error:
                yield row, Row(line, error)

    def _read_columns(self) -> list[str]:
        found = self._next_row()
        if found is None or not found[1]:
            raise InvalidOption("expected a first line with the names of the columns, and it is empty")
        columns = self._cells(found[1])
        for position, name in enumerate(columns):
            if not name.strip():
                raise InvalidOption(f"line {found[0]}: column {position + 1} of {len(columns)} has no name")
            if name in columns[:position]:
                raise InvalidOption(f"line {found[0]}: two columns are named {name!r}; name each differently")
        return columns

    def _next_row(self) -> tuple[int, bytes] | None:
        """(number of its first line, the row without its end). A row ends where its quotes are in pairs."""
        if (line := self._next_line()) is None:
            return None
        first, lines, quotes, size = self._line, [line], line.count(b'"'), len(line)
        while quotes % 2:
            following = self._next_line()
            size += len(following or b"")
            if following is None or size > MAX_LINE_BYTES:
                raise Malformed(
                    f"line {first}: a quote is opened and never closed; nothing from this line on was read", line=first
                )
            lines.append(following)
            quotes += following.count(b'"')
        return first, b"".join(lines).rstrip(b"\r\n")

    def _next_line(self) -> bytes | None:
        line = next(self._lines, None)
        self._line += line is not None
        if isinstance(line, Overlong):
            raise PayloadTooLarge(
                f"line {self._line}: a line has at most {MAX_LINE_BYTES} bytes, got {len(line)}; nothing from this "
                "line on was read",
                line=self._line,
            )
        return line.removeprefix(BOM) if line is not None and self._line == 1 else line

    def _cells(self, raw: bytes) -> list[str]:
        text = decode_text(raw)
        if '"' not in text:
            return text.split(self._delimiter)
        if self._row.fullmatch(text) is None:
            raise Malformed(
                'a quote stands inside a cell without quotes, or after one; write a cell with quotes as "a ""b"" c"'
            )
        return [
            quoted.replace('""', '"') if quoted is not None else plain for quoted, plain in _groups(self._cell, text)
        ]

    def _named(self, cells: Sequence[str]) -> dict[str, str]:
        if len(cells) != len(self.columns):
            raise Malformed(
                f"expected {len(self.columns)} cells ({', '.join(self.columns)}), got {len(cells)}; a cell that holds "
                "the delimiter needs quotes"
            )
        return dict(zip(self.columns, cells, strict=True))


def text_rows(pieces: Iterable[bytes], kept_chars: int) -> Iterator[Row]:
    """One point a line that is not blank; its id is the number of the line. kept_chars: how much of the text the
    metadata keeps as `text`."""
    for number, line in enumerate(split_lines(pieces), 1):
        try:
            if isinstance(line, Overlong):
                raise PayloadTooLarge(f"a line has at most {MAX_LINE_BYTES} bytes, got {len(line)}")
            text = decode_text(line.removeprefix(BOM) if number == 1 else line).strip()
            if not text:
                continue
            metadata = {"text": text[:kept_chars]} if kept_chars else {}
            yield Row(number, {"id": str(number), "text": text, "metadata": metadata})
        except BebrError as error:
            yield Row(number, error)


def decode_text(raw: bytes) -> str:
    """Raises Malformed for what is no UTF-8, or holds NUL."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Malformed(
            f"not valid UTF-8: byte {raw[error.start]:#04x} at byte {error.start + 1} of the row; convert the file to "
            "UTF-8"
        ) from error
    if "\0" in text:
        raise Malformed("the row holds a NUL character")
    return text


def typed(cell: str, kind: FieldType) -> Any:
    """A cell as its type; as it is where it does not have it."""
    match kind:
        case FieldType.INTEGER | FieldType.FLOAT if (number := _NUMBER.fullmatch(cell)) is not None:
            value = float(cell) if number["real"] or number["power"] else int(cell)
            return value if abs(value) < math.inf else cell
        case FieldType.BOOL:
            return _BOOLS.get(cell.lower(), cell)
    if kind.is_array and cell.startswith("["):
        try:
            return parse_line(cell.encode())
        except Malformed:
            return cell
    return cell


def _groups(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str | None, str]]:
    return ((found[1], found[2] or "") for found in pattern.finditer(text))
