"""What every kind of file has: a name, a size, and rows that are points."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import cast

from bebr.cli.files.columns import COLUMN_OPTIONS, Columns, FileOptions, Target
from bebr.client import wire
from bebr.core.decoding import HEAD_BYTES, MAX_LINE_BYTES, check_text, unpacked
from bebr.core.rows import Row
from bebr.errors import InvalidOption, InvalidRequest

STDIN = "-"
BLOCK_ROWS = 256
"""Rows of a file, from its first one, that always go together: a share of a file has whole blocks."""


@dataclass(frozen=True, slots=True)
class Share:
    """Which rows of a file are read: a range where it is known how many there are, else blocks in turn with others."""

    start: int = 0
    """The first row, from 0."""
    stop: int | None = None
    """The row after the last one; None: to the end."""
    turn: int = 0
    """Which of each `turns` blocks."""
    turns: int = 1

    def has(self, row: int) -> bool:
        return (
            row >= self.start and (self.stop is None or row < self.stop) and row // BLOCK_ROWS % self.turns == self.turn
        )


WHOLE = Share()
Numbered = tuple[int, Row]
"""A row, and which one it is of its file, from 0."""


class Reader(ABC):
    """A file that was opened and whose beginning was read, so that what it cannot be is known before anything is sent.

    Raises InvalidOption for options that do not apply, Malformed for what is something else than its name says.
    """

    unit = "line"
    """What its rows are counted in."""
    columns: Columns | None = None
    """None: its rows are points already."""
    takes: tuple[str, ...] = ()
    """The options that apply to it."""
    count: int | None = None
    """How many rows there are, where that is known without reading them."""

    def __init__(self, path: Path | None, options: FileOptions) -> None:
        """path: None for stdin."""
        self.path = path
        self.options = options
        self.name = "stdin" if path is None else path.name
        self.size_bytes = None if path is None else path.stat().st_size
        self.read_bytes = 0
        """How much was read of it."""
        self.lines = 0
        """How many lines or rows were read."""
        for option in options.given():
            if option not in self.takes:
                raise InvalidOption(f"{option} {_fitting(option)}, and not to {self.name}", option=option)

    def rows(self, target: Target, first: int) -> Iterator[Row]:
        """All rows. first: how many rows were in the files before. Raises Malformed where the rest cannot be read."""
        return (row for _, row in self.numbered(target, first, WHOLE))

    @abstractmethod
    def numbered(self, target: Target, first: int, share: Share) -> Iterator[Numbered]:
        """The rows of a share, as `rows` gives them; those that others have are passed over without being parsed."""

    @property
    def numbers_ids(self) -> bool:
        """Whether ids are numbers of rows, so that those of files before count."""
        return self.columns is not None and self.columns.id is None

    @abstractmethod
    def sample(self) -> Iterator[Row]:
        """The first rows, once more."""

    def said(self) -> str | None:
        """What was taken from which columns."""
        return None if self.columns is None else self.columns.said()

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors name the file."""
        try:
            yield
        except InvalidRequest as error:
            raise type(error)(f"{self.name}: {error.detail}", **error.fields) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise InvalidOption(f"'{self.path}' cannot be read: {reason}", file=str(self.path)) from error


class TextReader(Reader):
    """A file of text, perhaps gzipped, or stdin."""

    def __init__(self, path: Path | None, options: FileOptions) -> None:
        super().__init__(path, options)
        self._head = b""
        if path is None:
            self._head = _read_head(_stdin())
        with self.named():
            self.beginning()

    def pieces(self) -> Iterator[bytes]:
        """All of it, uncompressed; its beginning is text."""
        return _checked(unpacked(self._counted(self.raw_pieces())))

    def raw_pieces(self) -> Iterator[bytes]:
        """All of it, as it is."""
        if self.path is not None:
            return wire.file_pieces(self.path)
        return chain([self._head], iter(lambda: _stdin().read1(wire.PIECE_BYTES), b""))

    def beginning(self) -> Iterator[bytes]:
        """Its beginning: nothing of it is taken away from `pieces`."""
        return self.pieces() if self.path is not None else _checked(unpacked([self._head]))

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        self.read_bytes = 0
        for piece in pieces:
            self.read_bytes += len(piece)
            yield piece


def _checked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    first = next(pieces, b"")
    check_text(first[:HEAD_BYTES])
    return chain([first], pieces)


def _stdin() -> BufferedReader:
    return cast(BufferedReader, sys.stdin.buffer)


def _read_head(file: BufferedReader) -> bytes:
    """Up to the end of the second line, which says what the rest is."""
    head = b""
    while head.count(b"\n") < 2 and len(head) <= MAX_LINE_BYTES and (piece := file.read1(wire.PIECE_BYTES)):
        head += piece
    return head


def _fitting(option: str) -> str:
    """To which files an option applies."""
    if option in COLUMN_OPTIONS:
        return "applies to .csv and .tsv files, Parquet and flat JSON (--flat)"
    return {
        "--flat": "applies to NDJSON and JSON",
        "--delimiter": "applies to text files with columns",
        "--ids": "applies to .npy and .fvecs files",
    }[option]
