"""CSV with any delimiter, and lines of text."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bebr.cli.files.columns import COLUMN_OPTIONS, Columns, FileOptions, Target
from bebr.cli.files.reader import WHOLE, Numbered, Share, TextReader
from bebr.core.decoding import parse_line
from bebr.core.rows import CsvRows, Row, text_rows
from bebr.errors import BebrError, InvalidOption, InvalidVector, Malformed

KEPT_CHARS = 10_000
"""Longest text that metadata keeps where the collection keeps none: more than any model reads."""
_NAMED_DELIMITERS = {"\\t": "\t", "tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}


class CsvFile(TextReader):
    """A first line with the names of the columns, then a row a line."""

    takes = (*COLUMN_OPTIONS, "--delimiter")

    def __init__(self, path: Path | None, options: FileOptions, delimiter: str) -> None:
        super().__init__(path, options)
        self._delimiter = _delimiter(options.delimiter or delimiter)
        with self.named():
            self.columns: Columns = Columns(CsvRows(self.beginning(), self._delimiter).columns, options)

    def numbered(self, target: Target, first: int, share: Share) -> Iterator[Numbered]:
        return self._rows(self.pieces(), target, first, share)

    def sample(self) -> Iterator[Row]:
        return (row for _, row in self._rows(self.beginning(), Target(), 0, WHOLE))

    def _rows(self, pieces: Iterable[bytes], target: Target, first: int, share: Share) -> Iterator[Numbered]:
        for number, row in CsvRows(pieces, self._delimiter).numbered(share.has):
            if isinstance(row.point, BebrError):
                yield number, row
                continue
            try:
                yield number, Row(row.line, self.columns.point(self._read(row.point), first + number + 1, target))
            except BebrError as error:
                yield number, Row(row.line, error)

    def _read(self, cells: Any) -> dict[str, Any]:
        """Empty cells are missing values; a vector is a JSON array."""
        columns = self.columns
        row = {name: cell if cell or name == columns.id else None for name, cell in cells.items()}
        if columns.vector is not None:
            row[columns.vector] = _vector(cells[columns.vector])
        return row


class TextFile(TextReader):
    """One text a line."""

    numbers_ids = True

    def numbered(self, target: Target, first: int, share: Share) -> Iterator[Numbered]:
        for number, row in enumerate(text_rows(self.pieces(), KEPT_CHARS if target.text_field is None else 0)):
            self.lines = row.line
            if not share.has(number):
                continue
            if first and isinstance(row.point, dict):
                yield number, Row(row.line, {**row.point, "id": str(first + row.line)})
            else:
                yield number, row

    def sample(self) -> Iterator[Row]:
        return text_rows(self.beginning(), 0)


def _delimiter(given: str) -> str:
    delimiter = _NAMED_DELIMITERS.get(given, given)
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise InvalidOption(
            f"--delimiter: expected one character that is no quote and no line end, or tab, got {given!r}",
            option="--delimiter",
        )
    return delimiter


def _vector(cell: str) -> list[Any]:
    try:
        found = parse_line(cell.encode())
    except Malformed:
        found = None
    if not isinstance(found, list):
        raise InvalidVector(f"expected a vector as a JSON array such as [0.1, 0.2], got {cell!r:.80}")
    return found
