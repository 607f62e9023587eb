"""Files as points: NDJSON is sent as it is, rows of CSV, TSV and text become lines of it. No file is held in memory."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import Any, cast

from bebr.client import wire
from bebr.client.values import to_json
from bebr.core.decoding import BOM, HEAD_BYTES, Overlong, check_text, parse_line, split_lines, unpacked
from bebr.core.rows import CsvRows, Row, text_rows
from bebr.core.types import FieldType
from bebr.errors import BebrError, InvalidOption, InvalidRequest, Malformed

NDJSON_ENDINGS = (".ndjson", ".jsonl")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
ENDINGS = (*NDJSON_ENDINGS, *DELIMITERS, ".txt")
KEPT_CHARS = 10_000
"""Longest text that metadata keeps where the collection keeps none: more than any model reads."""
MAX_LISTED = 10_000
"""Beyond this, rejected rows are still counted but no longer listed."""


@dataclass(slots=True)
class Rejected:
    """Rows that were not sent."""

    count: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    """As a job lists them: line, id, error, detail."""

    def add(self, line: int | None, error: BebrError) -> None:
        self.count += 1
        if len(self.errors) < MAX_LISTED:
            self.errors.append({"line": line, "id": None, "error": type(error).__name__, "detail": error.detail})


class Source:
    """A file that was opened and whose beginning was read, so that what it cannot be is known before anything is sent.

    Raises InvalidOption for a file that is not there, or of another kind, and for options that do not apply to it;
    Malformed for what is no text.
    """

    def __init__(self, file: str, id_field: str | None = None, text_field: str | None = None) -> None:
        """file: its suffix says what it is; `-` is NDJSON on stdin. id_field, text_field: columns of CSV and TSV."""
        self.rejected = Rejected()
        self.path = None if file == "-" else Path(file)
        self.name = "stdin" if self.path is None else self.path.name
        ending = NDJSON_ENDINGS[0] if self.path is None else _ending(self.path)
        for option, given in (("--id-field", id_field), ("--text-field", text_field)):
            if given is not None and ending not in DELIMITERS:
                raise InvalidOption(
                    f"{option} applies to .csv and .tsv files only, and not to {self.name}", option=option
                )
        self._csv: CsvRows | None = None
        self._text: Iterator[bytes] | None = None
        if self.path is not None:
            with self._named():
                beginning = _opened(self.path)
                if ending in DELIMITERS:
                    self._csv = CsvRows(beginning, DELIMITERS[ending], id_field, text_field)
                elif ending == ".txt":
                    self._text = beginning

    @property
    def size_bytes(self) -> int | None:
        """How much will be sent, where that is known."""
        return None if self.path is None or self._csv or self._text else self.path.stat().st_size

    def body(self, fields: Mapping[str, FieldType], keeps_texts: bool) -> Path | Iterable[bytes]:
        """What `Client.ingest` takes. fields: the filterable ones. keeps_texts: whether the collection does."""
        if self._csv is not None:
            return self._ndjson(self._csv.points(fields))
        if self._text is not None:
            return self._ndjson(text_rows(self._text, 0 if keeps_texts else KEPT_CHARS))
        return self.path or iter(lambda: _stdin().read1(wire.PIECE_BYTES), b"")

    def _ndjson(self, rows: Iterator[Row]) -> Iterator[bytes]:
        """Each point in the line that it has in the file, so that the service's line numbers are those of the file."""
        piece, at = bytearray(), 0
        try:
            for row in rows:
                try:
                    if isinstance(row.point, BebrError):
                        raise row.point
                    text = to_json(row.point)
                except InvalidRequest as error:
                    self.rejected.add(row.line, error)
                    continue
                piece += b"\n" * (row.line - 1 - at) + text + b"\n"
                at = row.line
                if len(piece) >= wire.PIECE_BYTES:
                    yield bytes(piece)
                    piece.clear()
        except InvalidRequest as error:  # the rest cannot be read; what came before is right
            line = error.fields.get("line")
            self.rejected.add(line, type(error)(f"{self.name}: {error.detail}"))
        if piece:
            yield bytes(piece)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors name the file."""
        try:
            yield
        except InvalidRequest as error:
            raise type(error)(f"{self.name}: {error.detail}", **error.fields) from error
        except OSError as error:
            raise InvalidOption(f"'{self.path}' cannot be read: {error.strerror}", file=str(self.path)) from error


def _stdin() -> BufferedReader:
    return cast(BufferedReader, sys.stdin.buffer)


def json_objects(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of an NDJSON file. Raises Malformed with the number of the first line that is none."""
    for number, line in enumerate(split_lines(_opened(path)), 1):
        try:
            if isinstance(line, Overlong):
                raise Malformed(f"the line has {len(line)} bytes, too many")
            line = line.removeprefix(BOM) if number == 1 else line
            if not line or line.isspace():
                continue
            if not isinstance(value := parse_line(line), dict):
                raise Malformed("the line is not a JSON object")
        except Malformed as error:
            detail = error.detail.replace("the line", f"line {number}", 1)
            raise Malformed(f"{path.name}: {detail}", line=number) from error
        yield value


def _ending(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    ending = Path(name).suffix
    if ending not in ENDINGS:
        raise InvalidOption(f"expected a {', '.join(ENDINGS[:-1])} or .txt file, optionally .gz, got '{path.name}'")
    if not path.is_file():
        raise InvalidOption(f"there is no file '{path}'", file=str(path))
    return ending


def _opened(path: Path) -> Iterator[bytes]:
    """The pieces of a file, uncompressed; its beginning was read and is text."""
    pieces = unpacked(wire.file_pieces(path))
    first = next(pieces, b"")
    check_text(first[:HEAD_BYTES])
    return chain([first], pieces)
