"""NDJSON on disk -> batches of points. Memory stays flat however long the file or one line of it is."""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bebr.errors import BebrError, Malformed, PayloadTooLarge

Result = TypeVar("Result")

MAX_LINE_BYTES = 4 << 20
MAX_BATCH_BYTES = 8 << 20
MAX_DEPTH = 200
"""As deep as other requests may nest; deeper metadata could be stored, but never be shown again."""
MAX_SKIPPED_BYTES = 1 << 30
"""A body whose line is longer than this is no NDJSON; without this bound a gzip bomb could keep a job busy for days."""


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
        self._raw = path.open("rb")
        self._file: io.BufferedIOBase = gzip.GzipFile(fileobj=self._raw) if zipped else self._raw
        self._max_points = max_points
        self._line, self._offset = line, offset
        self._guarded(lambda: self._file.seek(offset))
        self._held: tuple[Any, int] | None = None
        self._lines = self._read_lines()

    def close(self) -> None:
        self._file.close()
        self._raw.close()

    def next_batch(self) -> Batch | None:
        """The next batch, or None at the end. Raises Malformed when the gzip stream is broken."""
        batch = Batch(self._line + 1 if self._held is None else self._line)
        while batch.received < self._max_points and batch.size_bytes < MAX_BATCH_BYTES:
            if not self._add_next(batch):
                break
        if not batch.end_line:
            return None
        batch.read_bytes = self._raw.tell()
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

    def _parse(self, line: "bytes | _Overlong", batch: Batch) -> Any:
        """The JSON value of a line; _SKIP for blank lines and for those that went to the batch's errors."""
        if isinstance(line, _Overlong):
            too_long = PayloadTooLarge(f"a line has at most {MAX_LINE_BYTES} bytes, got {line.size_bytes}")
            batch.errors.append(LineError.of(self._line, None, too_long))
            return _SKIP
        if line.isspace():
            return _SKIP
        try:
            return parse_line(line)
        except Malformed as error:
            batch.errors.append(LineError.of(self._line, None, error))
            return _SKIP

    def _next_line(self) -> "bytes | _Overlong | None":
        line = self._guarded(lambda: next(self._lines, None))
        if line is not None:
            self._line += 1
            self._offset += len(line)
        return line

    def _guarded(self, read: Callable[[], Result]) -> Result:
        try:
            return read()
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise Malformed(f"the gzip body is broken after line {self._line}: {error}", line=self._line) from error

    def _read_lines(self) -> "Iterator[bytes | _Overlong]":
        while line := self._file.readline(MAX_LINE_BYTES + 1):
            if len(line) <= MAX_LINE_BYTES or line.endswith(b"\n"):
                yield line
                continue
            size = len(line)
            while line and not line.endswith(b"\n"):
                line = self._file.readline(MAX_LINE_BYTES)
                size += len(line)
                if size > MAX_SKIPPED_BYTES:
                    raise Malformed(f"line {self._line + 1} does not end within {MAX_SKIPPED_BYTES} bytes")
            yield _Overlong(size)


@dataclass(frozen=True, slots=True)
class _Overlong:
    """Represents a line that was passed over without being held."""

    size_bytes: int

    def __len__(self) -> int:
        return self.size_bytes


_SKIP = object()


def parse_line(line: bytes) -> Any:
    """One line of NDJSON -> its value. Raises Malformed with the column."""
    try:
        value = json.loads(line.decode())
        if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        if b"\\ud" in line.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no Unicode text
    except json.JSONDecodeError as error:
        raise Malformed(f"not valid JSON: {error.msg} at column {error.colno}", column=error.colno) from error
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not valid JSON: {error}") from error
    return value


def _depth(value: Any) -> int:
    """How deep arrays and objects nest; level by level, because recursion has limits of its own."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth
