"""Parquet: columns of ids, texts, vectors and metadata, read a few rows at a time. It needs the extra [files]."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.cli.files.columns import COLUMN_OPTIONS, Columns, FileOptions, Target
from bebr.cli.files.reader import Numbered, Reader, Share
from bebr.core.rows import Row
from bebr.errors import BebrError, InvalidMetadata, InvalidOption, InvalidVector, Malformed

BATCH_ROWS = 512
BUFFER_BYTES = 1 << 20


class ParquetFile(Reader):
    """A Parquet file with one point a row."""

    unit = "row"
    takes = COLUMN_OPTIONS

    def __init__(self, path: Path, options: FileOptions) -> None:
        super().__init__(path, options)
        self._path = path
        with self.named(), self._open() as file:
            self.count = self._count = int(file.metadata.num_rows)
            schema = file.schema_arrow
            self.columns: Columns = Columns(schema.names, options)
            self._check_vectors(schema)

    def numbered(self, target: Target, first: int, share: Share) -> Iterator[Numbered]:
        with self._open() as file:
            groups, number = _groups(file.metadata, share)
            for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, use_threads=False):
                start, stop = number, number + batch.num_rows
                skipped = min(max(0, share.start - start), batch.num_rows)
                if share.stop is not None:
                    batch = batch.slice(0, max(0, share.stop - start))
                for number, row in enumerate(self._points(batch.slice(skipped)), start + skipped):
                    line = number + 1
                    self.lines, self.read_bytes = line, (self.size_bytes or 0) * line // max(1, self._count)
                    try:
                        if isinstance(row, BebrError):
                            raise row
                        yield number, Row(line, self.columns.point(row, first + line, target))
                    except BebrError as error:
                        yield number, Row(line, error)
                number = stop

    def sample(self) -> Iterator[Row]:
        return self.rows(Target(), 0)

    def _points(self, batch: Any) -> Iterator[dict[str, Any] | BebrError]:
        names = batch.schema.names
        vector = self.columns.vector
        vectors = None if vector is None else _Vectors(batch.column(names.index(vector)))
        others = [name for name in names if name != vector]
        values = [batch.column(names.index(name)).to_pylist() for name in others]
        for place in range(batch.num_rows):
            found = None if vectors is None else vectors.next()
            try:
                row = {name: plain(column[place], name) for name, column in zip(others, values, strict=True)}
            except BebrError as error:
                yield error
                continue
            if isinstance(found, BebrError):
                yield found
            else:
                yield row if vector is None else {**row, vector: found}

    def _check_vectors(self, schema: Any) -> None:
        import pyarrow.types as types

        if self.columns.vector is None:
            return
        kind = schema.field(self.columns.vector).type
        is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        if not is_list or not (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
            raise InvalidOption(
                f"column '{self.columns.vector}' has the type {kind}, and vectors are lists of numbers; name another "
                "column with --vector-field"
            )

    def _open(self) -> AbstractContextManager[Any]:
        return reading_parquet(self._path, lambda: f"after row {self.lines}")


def _groups(metadata: Any, share: Share) -> tuple[list[int], int]:
    """(the row groups that a share has rows of, the number of their first row)."""
    ends = list(accumulate(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)))
    last = metadata.num_rows if share.stop is None else share.stop
    found = [
        number
        for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True))
        if end > share.start and start < last
    ]
    return found, [0, *ends][found[0]] if found else 0


@contextmanager
def reading_parquet(path: Path, place: Callable[[], str] = lambda: "somewhere", **options: Any) -> Iterator[Any]:
    """An opened Parquet file. Raises InvalidOption without pyarrow, Malformed for what is damaged."""
    check_pyarrow()
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False, **options) as file:
            yield file
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split())
        raise Malformed(f"it is no whole Parquet file, or damaged {place()}: {reason}") from error


def check_pyarrow() -> None:
    """Raise InvalidOption where pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError as error:
        raise InvalidOption(
            "Parquet files need pyarrow, which is not installed: install bebr with the extra [files]"
        ) from error


class _Vectors:
    """The vectors of one column, in order."""

    def __init__(self, column: Any) -> None:
        import pyarrow.compute as compute

        self._values = np.asarray(column.flatten().to_numpy(zero_copy_only=False), "<f4")
        self._lengths = iter(compute.list_value_length(column).to_pylist())
        self._at = 0

    def next(self) -> NDArray[np.float32] | InvalidVector:
        """(dims,) float32, or why there is none."""
        length = next(self._lengths)
        if length is None:
            return InvalidVector("the row has no vector")
        self._at += length
        return self._values[self._at - length : self._at]


def plain(value: Any, name: str) -> Any:
    """What JSON has for a value of a table. A number that is none is a missing value. Raises InvalidMetadata."""
    match value:
        case float() if math.isnan(value):
            return None
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            moment = value if value.tzinfo is None else value.astimezone(UTC)
            return moment.isoformat().replace("+00:00", "Z") if value.tzinfo else f"{moment.isoformat()}Z"
        case date() | time():
            return value.isoformat()
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case list() | tuple():
            return [plain(item, name) for item in value]
        case dict():
            return {str(key): plain(item, name) for key, item in value.items()}
    raise InvalidMetadata(
        f"column '{name}' holds {type(value).__name__}, which JSON does not have; leave it out", key=name
    )
