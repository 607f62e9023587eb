"""What comes in as bytes: how it is compressed, in which characters it is written, where its lines end, what its JSON
says. Every door through which points come in uses these rules, so that the same bytes get the same answer everywhere.

    gzip       is known by its magic, whatever a name or a header says; members may follow each other
    others     zip, zstd, xz, bzip2, Parquet, Arrow, numpy, UTF-16 and UTF-32 are refused by name
    characters UTF-8; a byte order mark before the first character is dropped
    lines      end in \\n, \\r\\n or \\r and nothing else, the last one also without; blank ones are counted and skipped
    JSON       as RFC 8259 says, up to 201 levels deep; of a repeated key the last value counts
"""

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from bebr.errors import Malformed

BOM = b"\xef\xbb\xbf"
HEAD_BYTES = 16
"""The first bytes of a file, which tell what it is: how many are read."""
MAX_JSON_DEPTH = 201
"""The parser's own limit."""
MAX_LINE_BYTES = 4 << 20
MAX_SKIPPED_BYTES = 1 << 30
"""What has a longer line is no text; without this bound a gzip bomb could keep a job busy for days."""

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 1 << 20
_FRAME_HEADER = b"{ \t\r\n"
_FOREIGN = re.compile(
    rb"(?P<gzip_inside_gzip>\x1f\x8b\x08)|(?P<zip>PK\x03\x04|PK\x05\x06)|(?P<zstd>\x28\xb5\x2f\xfd)|(?P<xz>\xfd7zXZ\x00)"
    rb"|(?P<bzip2>BZh.1AY&SY)|(?P<Parquet>PAR1[\x00-\x1f])|(?P<Arrow>ARROW1\x00)|(?P<npy>\x93NUMPY)"
    rb"|(?P<UTF_32>\xff\xfe\x00\x00|\x00\x00\xfe\xff)|(?P<UTF_16>\xff\xfe|\xfe\xff|\x00[^\x00]|[^\x00]\x00)"
)
_POSITION = re.compile(r"(?P<what>.*?) at line (?P<line>[0-9]+) column (?P<column>[0-9]+)", re.DOTALL)


def is_gzip(head: bytes) -> bool:
    """Whether the first bytes are those of gzip. A binary frame whose header has 559,903 bytes begins like it; what
    follows its size is JSON, which gzip has no such byte for."""
    return head[:2] == b"\x1f\x8b" and not (len(head) > 8 and head[8] in _FRAME_HEADER)


def check_text(head: bytes) -> None:
    """Raise Malformed where the first bytes, uncompressed, are those of something else than UTF-8 text."""
    if (found := _FOREIGN.match(head)) is not None:
        kind = str(found.lastgroup).replace("_", "-" if "UTF" in str(found.lastgroup) else " ")
        raise Malformed(f"expected text in UTF-8, plain or compressed with gzip, got {kind}; convert it first")


class Unpacker:
    """Uncompresses what comes in chunks, where it is gzip.

    `push` gives pieces of at most 1 MiB, so that a small body cannot grow large unnoticed; `finish` gives the rest.
    Both raise Malformed for gzip that is damaged or cut short.
    """

    def __init__(self, zipped: bool | None = None) -> None:
        """zipped: None: its first bytes say it."""
        self._zipped = zipped
        self._head = b""
        self._member = zlib.decompressobj(_GZIP_WINDOW)

    def push(self, chunk: bytes) -> Iterator[bytes]:
        if self._zipped is None:
            self._head += chunk
            if len(self._head) < HEAD_BYTES:
                return
            self._zipped, chunk = is_gzip(self._head), self._head
        if self._zipped:
            yield from self._unzip(chunk)
        elif chunk:
            yield chunk

    def finish(self) -> Iterator[bytes]:
        if self._zipped is None:
            self._zipped = is_gzip(self._head)
            yield from self.push(self._head)
        if self._zipped and not self._member.eof:
            raise Malformed("the gzip data is cut short; send all of it")

    def _unzip(self, chunk: bytes) -> Iterator[bytes]:
        pending, piece = chunk, b""
        # a full piece may have left more inside
        while pending or (len(piece) == _PIECE_BYTES and not self._member.eof):
            if self._member.eof:
                pending = pending.lstrip(b"\0")  # members may follow each other, and zeros may fill the last block
                if not pending:
                    return
                self._member = zlib.decompressobj(_GZIP_WINDOW)
            try:
                piece = self._member.decompress(pending, _PIECE_BYTES)
            except zlib.error as error:
                raise Malformed(f"the gzip data is damaged: {error}") from error
            if piece:
                yield piece
            pending = self._member.unconsumed_tail or self._member.unused_data


def unpacked(chunks: Iterable[bytes], zipped: bool | None = None) -> Iterator[bytes]:
    """The chunks, uncompressed where they are gzip. Raises Malformed."""
    unpacker = Unpacker(zipped)
    for chunk in chunks:
        yield from unpacker.push(chunk)
    yield from unpacker.finish()


@dataclass(frozen=True, slots=True)
class Overlong:
    """Represents a line that was passed over without being held."""

    size_bytes: int

    def __len__(self) -> int:
        return self.size_bytes


def split_lines(pieces: Iterable[bytes], max_bytes: int = MAX_LINE_BYTES) -> Iterator[bytes | Overlong]:
    """Pieces -> lines with their ends. Lines of more than `max_bytes` are not held. Raises Malformed for one that does
    not end within MAX_SKIPPED_BYTES."""
    rest, passed = b"", 0
    for piece in pieces:
        lines = (rest + piece).splitlines(keepends=True)
        # the last line may go on in the next piece, and what ends in \r may go on with \n
        rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        for line in lines:
            yield Overlong(passed + len(line)) if passed + len(line) > max_bytes else line
            passed = 0
        if passed or len(rest) > max_bytes:
            passed += len(rest) - 1
            rest = rest[-1:]
            if passed > MAX_SKIPPED_BYTES:
                raise Malformed(f"expected lines, and one does not end within {MAX_SKIPPED_BYTES} bytes")
    for line in rest.splitlines(keepends=True):
        yield Overlong(passed + len(line)) if passed + len(line) > max_bytes else line


def json_lines(body: bytes) -> list[bytes]:
    """The lines of NDJSON that are not blank. Raises Malformed for what is no text."""
    check_text(body[:HEAD_BYTES])
    return [line for line in body.removeprefix(BOM).splitlines() if line and not line.isspace()]


def parse_line(line: bytes) -> Any:
    """One line of NDJSON -> its value. Raises Malformed with the column."""
    try:
        return from_json(line)
    except ValueError as error:
        raise malformed(str(error), "line") from error


def malformed(message: str, what: str = "body") -> Malformed:
    """The parser's message, 'expected value at line 3 column 7', as an error with its position in fields."""
    position = _POSITION.fullmatch(message)
    if position is None:
        return Malformed(f"the {what} is not valid JSON: {message}")
    line, column = int(position["line"]), int(position["column"])
    if what == "line":
        return Malformed(f"the line is not valid JSON: {position['what']} at column {column}", column=column)
    return Malformed(
        f"the {what} is not valid JSON: {position['what']} at line {line}, column {column}", line=line, column=column
    )
