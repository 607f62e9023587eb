"""NDJSON, JSON arrays, and the corpus of a BEIR folder."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from bebr.cli.files.columns import COLUMN_OPTIONS, NO_OPTIONS, Columns, FileOptions, Target
from bebr.cli.files.reader import WHOLE, Numbered, Share, TextReader
from bebr.core.decoding import BOM, MAX_LINE_BYTES, Overlong, parse_line, split_lines
from bebr.core.rows import Row
from bebr.errors import BebrError, Malformed, PayloadTooLarge

NAMES_FROM_ROWS = 100
"""How many objects say which keys there are."""
BEIR_CORPUS = ("corpus.jsonl", "corpus.jsonl.gz")
_BEIR = FileOptions(id_field="_id", text_fields=("title", "text"))
_SPACE = re.compile(r"[ \t\r\n]*")


class JsonFile(TextReader):
    """Objects that are points, or flat ones whose keys are columns."""

    takes: tuple[str, ...] = ("--flat",)

    def __init__(self, path: Path | None, options: FileOptions, columns: FileOptions | None = None) -> None:
        """columns: where the file says itself what its keys are."""
        flat = columns or (options if options.flat else None)
        if columns is not None:
            self.takes = ()
        elif options.flat:
            self.takes = ("--flat", *COLUMN_OPTIONS)
        super().__init__(path, options)
        self._is_beir = columns is not None
        if flat is not None:
            with self.named():
                self.columns = Columns(self._names(), flat)

    def numbered(self, target: Target, first: int, share: Share) -> Iterator[Numbered]:
        return self._rows(self.pieces(), target, first, share)

    def sample(self) -> Iterator[Row]:
        return (row for _, row in self._rows(self.beginning(), Target(), 0, WHOLE))

    def objects(self, pieces: Iterable[bytes], share: Share) -> Iterator[Numbered]:
        """Its objects, unread where they are points."""
        row = -1
        for number, line in enumerate(split_lines(pieces), 1):
            self.lines = number
            line = line.removeprefix(BOM) if number == 1 and isinstance(line, bytes) else line
            if isinstance(line, bytes) and (not line or line.isspace()):
                continue
            row += 1
            if not share.has(row):
                continue
            if isinstance(line, Overlong):
                error = PayloadTooLarge(f"a line has at most {MAX_LINE_BYTES} bytes, got {len(line)}")
                yield row, Row(number, error)
            else:
                yield row, Row(number, line.strip() if self.columns is None else _object(line))

    def _rows(self, pieces: Iterable[bytes], target: Target, first: int, share: Share) -> Iterator[Numbered]:
        for number, row in self.objects(pieces, share):
            if self.columns is None or isinstance(row.point, BebrError | bytes):
                yield number, row
                continue
            try:
                yield number, Row(row.line, self.columns.point(self._flat(row.point), first + number + 1, target))
            except BebrError as error:
                yield number, Row(row.line, error)

    def _flat(self, found: Mapping[str, Any]) -> Mapping[str, Any]:
        """The corpus of a BEIR folder may have metadata of its own."""
        if self._is_beir and isinstance(more := found.get("metadata"), dict):
            return {**more, **{key: value for key, value in found.items() if key != "metadata"}}
        return found

    def _names(self) -> list[str]:
        """The keys of the first objects, and those that options name."""
        names: dict[str, None] = dict.fromkeys(("_id", "title", "text") if self._is_beir else ())
        for line in islice(split_lines(self.beginning()), NAMES_FROM_ROWS):
            if isinstance(line, bytes) and isinstance(found := _object(line.removeprefix(BOM)), dict):
                names |= dict.fromkeys(found)
        return list(names)


class JsonArray(JsonFile):
    """A file that is one array of objects."""

    unit = "object"

    def objects(self, pieces: Iterable[bytes], share: Share) -> Iterator[Numbered]:
        """Each object as it ends: the array is never held whole."""
        for row, found in enumerate(_Items(pieces)):
            self.lines = row + 1
            if share.has(row):
                error = None if isinstance(found, dict) else Malformed("it is not a JSON object")
                yield row, Row(row + 1, error or found)

    def _names(self) -> list[str]:
        names: dict[str, None] = {}
        for found in islice(_Items(self.beginning()), NAMES_FROM_ROWS):
            if isinstance(found, dict):
                names |= dict.fromkeys(found)
        return list(names)


def beir_corpus(folder: Path, options: FileOptions) -> JsonFile | None:
    """The corpus of a BEIR folder; None: it is no such folder."""
    found = next((folder / name for name in BEIR_CORPUS if (folder / name).is_file()), None)
    return None if found is None else JsonFile(found, options, _BEIR)


def json_objects(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of an NDJSON file. Raises Malformed with the number of the first line that is none."""
    for row in JsonFile(path, NO_OPTIONS).rows(Target(), 0):
        found = _object(row.point) if isinstance(row.point, bytes) else row.point
        if isinstance(found, BebrError):
            detail = found.detail.replace("the line", f"line {row.line}", 1)
            raise Malformed(f"{path.name}: {detail}", line=row.line) from found
        yield dict(found)


def _object(line: bytes) -> dict[str, Any] | BebrError:
    try:
        found = parse_line(line)
    except Malformed as error:
        return error
    return found if isinstance(found, dict) else Malformed("the line is not a JSON object")


class _Items:
    """The items of a JSON array, each as it ends. Raises Malformed with the number of the one that cannot be read."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at = "", 0
        self._number = 0

    def __iter__(self) -> Iterator[Any]:
        if self._next_char() != "[":
            raise Malformed("expected a JSON array of objects; a file with one object a line ends in .ndjson")
        self._at += 1
        if self._next_char() == "]":
            return
        while True:
            self._number += 1
            self._next_char()
            yield self._item()
            if (end := self._next_char()) == "]":
                return
            if end != ",":
                raise Malformed(f"expected , or ] after object {self._number}; nothing that follows was read")
            self._at += 1

    def _item(self) -> Any:
        while True:
            try:
                found, end = _decode(self._text, self._at)
                if end < len(self._text) or not self._more():
                    self._at = end
                    return found
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at > MAX_LINE_BYTES or not self._more():
                    raise Malformed(
                        f"object {self._number} cannot be read ({error}); nothing from it on was read"
                    ) from error

    def _next_char(self) -> str:
        """Pass over spaces -> the next character, empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def _more(self) -> bool:
        piece = next(self._pieces, b"")
        try:
            text = self._decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            raise Malformed(f"not valid UTF-8 near object {self._number}; convert the file to UTF-8") from error
        self._text, self._at = self._text[self._at :] + text, 0
        return bool(piece)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


_decode = json.JSONDecoder(parse_constant=_no_constant).raw_decode
