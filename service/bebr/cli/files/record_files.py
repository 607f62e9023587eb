"""Record files: what `bebr encode` writes and `bebr ingest` sends. Parquet with a row for each point.

    id            string
    code, gain    scan code, fixed size; its gain, a float16 in a float32
    rescore_code, rescore_gain      the same of the rescore code, where there is one
    metadata      JSON

The metadata of the schema says what made the records (`Made`). The same points and the same `Made` are the same bytes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bebr.cli.files.table_files import reading_parquet
from bebr.client.values import to_json
from bebr.core.codes import CodeSpec
from bebr.errors import Damaged, InvalidOption, Malformed

FORMAT = 1
MARK = b"bebr_records"
GROUP_ROWS = 4096
"""Rows of a row group, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What made the records of a file, and of what."""

    bundle: str
    """Id of the bundle."""
    fingerprint: str
    """Fingerprint of that bundle."""
    code: str
    """Layout of the codes."""
    part: int
    """Which part of the source, from 0."""
    parts: int
    """How many parts there are."""
    columns: bool
    """Whether metadata came from columns, so that values are read by the types of the collection's fields."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """The files, and what was said of them."""
    format: int = FORMAT

    def difference(self, other: "Made") -> str | None:
        """What another one has that this has not, in words; None: they are the same."""
        mine, theirs = asdict(self), asdict(other)
        key = next((key for key in mine if mine[key] != theirs[key]), None)
        if key == "source":
            files = next((name for name in self.source if self.source[name] != other.source.get(name)), "files")
            return "made of other files" if files == "files" else f"made with other options: {other.source.get(files)}"
        return None if key is None else f"of {key} {theirs[key]}, and this would be of {key} {mine[key]}"


@dataclass(frozen=True, slots=True)
class Batch:
    """Points of a record file."""

    first: int
    """Row of the first one in its file, from 0."""
    ids: list[str]
    records: NDArray[np.uint8]
    """(points, record_size_bytes) uint8."""
    metadata: list[str]
    """As JSON."""


class Rows:
    """Rows of a file that is being written, gathered to row groups."""

    def __init__(self, writer: Any, schema: Any, spec: CodeSpec) -> None:
        self._writer = writer
        self._schema = schema
        self._spec = spec
        self._ids: list[str] = []
        self._records: list[NDArray[np.uint8]] = []
        self._metadata: list[str] = []

    def add(self, ids: Sequence[str], records: NDArray[np.uint8], metadata: Sequence[str]) -> None:
        """records (points, record_size_bytes) uint8."""
        self._ids += ids
        self._records.append(records)
        self._metadata += metadata
        if len(self._ids) >= GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        import pyarrow as arrow

        if not self._ids:
            return
        records = np.concatenate(self._records)
        columns = [arrow.array(self._ids, arrow.string())]
        for place, size in _parts(self._spec):
            codes = np.ascontiguousarray(records[:, place : place + size])
            gains = np.ascontiguousarray(records[:, place + size : place + size + 2]).view("<f2")[:, 0]
            buffers = [None, arrow.py_buffer(codes)]
            columns += [
                arrow.Array.from_buffers(arrow.binary(size), len(codes), buffers),
                arrow.array(gains.astype(np.float32)),
            ]
        columns.append(arrow.array(self._metadata, arrow.string()))
        self._writer.write_table(arrow.Table.from_arrays(columns, schema=self._schema))
        self._ids, self._records, self._metadata = [], [], []


@contextmanager
def writing_records(file: IO[bytes], made: Made) -> Iterator[Rows]:
    """A record file into an opened one."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    spec = CodeSpec.parse(made.code)
    fields = [("id", arrow.string())]
    for name, (_, size) in zip(("", "rescore_"), _parts(spec), strict=False):
        fields += [(f"{name}code", arrow.binary(size)), (f"{name}gain", arrow.float32())]
    schema = arrow.schema([*fields, ("metadata", arrow.string())]).with_metadata({MARK: to_json(asdict(made))})
    with parquet.ParquetWriter(
        file, schema, compression="zstd", use_dictionary=False, write_page_checksum=True, store_schema=True
    ) as writer:
        rows = Rows(writer, schema, spec)
        yield rows
        rows.flush()


def read_made(path: Path) -> Made | None:
    """What made the records of a file; None: it is no record file. Raises Malformed where it is no Parquet file,
    InvalidOption for one of another release."""
    with reading_parquet(path) as file:
        text = (file.schema_arrow.metadata or {}).get(MARK)
    if text is None:
        return None
    found = json.loads(text)
    if found.get("format") != FORMAT:
        raise InvalidOption(
            f"{path.name} has records of format {found.get('format')}, and this release reads format {FORMAT}; encode "
            "it again, or take the release that wrote it"
        )
    return Made(**found)


def read_records(path: Path, made: Made, batch_points: int) -> Iterator[Batch]:
    """The points of a record file. Raises Damaged, with the place, when it comes to what is not whole."""
    spec = CodeSpec.parse(made.code)
    row = 0
    try:
        with reading_parquet(path, lambda: f"after row {row}", page_checksum_verification=True) as file:
            for batch in file.iter_batches(batch_points, use_threads=False):
                yield Batch(row, *_read(batch, spec))
                row += batch.num_rows
    except Malformed as error:
        raise Damaged(f"{path.name}: {error.detail}; remove it and encode it again") from error
    except (KeyError, ValueError) as error:
        raise Damaged(f"{path.name}: after row {row} it has no records of '{spec}': {error}") from error


def count_records(path: Path) -> int:
    """How many points a record file has."""
    with reading_parquet(path) as file:
        return int(file.metadata.num_rows)


def _read(batch: Any, spec: CodeSpec) -> tuple[list[str], NDArray[np.uint8], list[str]]:
    records = np.empty((batch.num_rows, spec.record_size_bytes), np.uint8)
    for name, (place, size) in zip(("", "rescore_"), _parts(spec), strict=False):
        codes = batch.column(f"{name}code")
        if codes.type.byte_width != size or codes.null_count:
            raise ValueError(f"a code has {codes.type.byte_width} bytes, and {size} were expected")
        start = codes.offset * size
        data = np.frombuffer(codes.buffers()[1], np.uint8, batch.num_rows * size, start)
        gains = np.asarray(batch.column(f"{name}gain").to_numpy(zero_copy_only=False), np.float32)
        records[:, place : place + size] = data.reshape(-1, size)
        records[:, place + size : place + size + 2] = gains.astype("<f2")[:, None].view(np.uint8)
    return batch.column("id").to_pylist(), records, batch.column("metadata").to_pylist()


def _parts(spec: CodeSpec) -> list[tuple[int, int]]:
    """(first byte in the record, size) of the scan code and of the rescore code; after each stands its gain."""
    scan = [(0, spec.code_size_bytes)]
    return scan if spec.rescore is None else [*scan, (spec.scan_record_size_bytes, spec.rescore_code_size_bytes)]
