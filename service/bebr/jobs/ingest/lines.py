"""NDJSON on disk -> batches of points. Memory stays flat however long the file or one line of it is."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bebr.core.decoding import (
    BOM,
    HEAD_BYTES,
    MAX_LINE_BYTES,
    Overlong,
    check_text,
    parse_line,
    split_lines,
    unpacked,
)
from bebr.errors import BebrError, Malformed, PayloadTooLarge

MAX_BATCH_BYTES = 8 << 20
READ_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class LineError:
    """Why one line was not applied."""

    line: int
    """Its number, from 1."""
    id: Any
    """Id of the point, as it was sent; None where that is unknown."""
    error: str
    """Name of the class in bebr.errors."""
    detail: str

    @classmethod
    def of(cls, line: int, point_id: Any, error: BebrError) -> "LineError":
        return cls(line, point_id, type(error).__name__, error.detail)


@dataclass(slots=True)
class Batch:
    """Points of consecutive lines, no id twice; none when all lines were blank or wrong."""

    first_line: int
    """Number of its first line, from 1."""
    points: list[Any] = field(default_factory=list)
    """JSON values, not checked yet."""
    lines: list[int] = field(default_factory=list)
    """Number of the line of each point."""
    errors: list[LineError] = field(default_factory=list)
    """Lines that are no JSON."""
    ids: set[str] = field(default_factory=set)
    """Ids of the points."""
    size_bytes: int = 0
    """Bytes of its lines."""
    end_line: int = 0
    """Number of its last line."""
    end_offset: int = 0
    """Where that line ends in the unzipped body."""
    read_bytes: int = 0
    """Where it ends in the file as it lies on disk, for the estimate of the remaining time."""

    @property
    def received(self) -> int:
        return len(self.points) + len(self.errors)


class BatchReader:
    """Reads batches of at most `max_points` from a body, beginning after `line` and `offset`.

    A batch ends early before an id that it has already, so that a later line of the same id wins, as it would if the
    lines were applied one by one. Batches are the same on every run, which lets a resumed job repeat one safely.
    """

    def __init__(self, path: Path, *, zipped: bool, max_points: int, line: int = 0, offset: int = 0) -> None:
        self._file = path.open("rb")
        self._max_points = max_points
        self._line, self._offset = line, offset
        self._held: tuple[Any, int] | None = None
        self._lines = split_lines(self._pieces(zipped))

    def close(self) -> None:
        self._file.close()

    def next_batch(self) -> Batch | None:
        """The next batch, or None at the end. Raises Malformed when the body is no text, or its gzip is broken."""
        batch = Batch(self._line + 1 if self._held is None else self._line)
        while batch.received < self._max_points and batch.size_bytes < MAX_BATCH_BYTES:
            if not self._add_next(batch):
                break
        if not batch.end_line:
            return None
        batch.read_bytes = self._file.tell()
        return batch

    def _add_next(self, batch: Batch) -> bool:
        """Read one line into the batch. False: the file or the batch ends here."""
        held, self._held = self._held, None
        if held is None:
            line = self._next_line()
            if line is None:
                return False
            value, size = self._parse(line, batch), len(line)
        else:
            value, size = held
        if value is not _SKIP:
            point_id = value.get("id") if isinstance(value, dict) else None
            if isinstance(point_id, str):
                if point_id in batch.ids:
                    self._held = (value, size)
                    return False
                batch.ids.add(point_id)
            batch.points.append(value)
            batch.lines.append(self._line)
        batch.size_bytes += size
        batch.end_line, batch.end_offset = self._line, self._offset
        return True

    def _parse(self, line: bytes | Overlong, batch: Batch) -> Any:
        """The JSON value of a line; _SKIP for blank lines and for those that went to the batch's errors."""
        if isinstance(line, Overlong):
            too_long = PayloadTooLarge(f"a line has at most {MAX_LINE_BYTES} bytes, got {line.size_bytes}")
            batch.errors.append(LineError.of(self._line, None, too_long))
            return _SKIP
        if not line or line.isspace():
            return _SKIP
        try:
            return parse_line(line)
        except Malformed as error:
            batch.errors.append(LineError.of(self._line, None, error))
            return _SKIP

    def _next_line(self) -> bytes | Overlong | None:
        try:
            line = next(self._lines, None)
        except Malformed as error:
            raise Malformed(f"the body is broken after line {self._line}: {error.detail}", line=self._line) from error
        if line is None:
            return None
        self._offset += len(line)
        self._line += 1
        return line.removeprefix(BOM) if self._line == 1 and isinstance(line, bytes) else line

    def _pieces(self, zipped: bool) -> Iterator[bytes]:
        """The body, uncompressed, from the offset on."""
        skipped = self._offset if zipped else 0
        if not zipped:
            self._file.seek(self._offset)
        pieces: Iterator[bytes] = iter(lambda: self._file.read(READ_BYTES), b"")
        head = b""
        for piece in unpacked(pieces, zipped) if zipped else pieces:
            if not self._offset and len(head) < HEAD_BYTES:
                head += piece[:HEAD_BYTES]
                check_text(head)
            if skipped < len(piece):
                yield piece[skipped:]
            skipped = max(0, skipped - len(piece))


_SKIP = object()
