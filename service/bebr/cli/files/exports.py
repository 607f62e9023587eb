"""Export files: a collection whole, as NDJSON (perhaps gzipped) or Parquet.

NDJSON: a line with the definition, one for each point by ascending id, one that says how many there were. Each line
ends with the CRC-32 of what stands before it in the line. Parquet: the definition is in the metadata of the schema, the
points are rows, and pages have checksums. A file takes its name when it is whole.
"""

import gzip
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, Protocol
from zlib import crc32

from bebr.cli.files.table_files import BATCH_ROWS, reading_parquet
from bebr.client import wire
from bebr.client.values import to_json
from bebr.core.decoding import Overlong, split_lines, unpacked
from bebr.disk import replacing
from bebr.errors import Damaged, InvalidOption, Malformed

FORMAT = 1
MARK = "bebr_export"
MAX_LINE_BYTES = 1 << 30
"""A definition holds binarizers."""
_CRC = b',"crc":"'
_CRC_BYTES = len(_CRC) + 10
NDJSON_ENDINGS = (".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz")
PARQUET_ENDING = ".parquet"
Points = Sequence[Mapping[str, Any]]


class Export(Protocol):
    """A file that points are added to."""

    def add(self, points: Points) -> None:
        """Points of one page."""


@contextmanager
def writing(path: Path, definition: Mapping[str, Any]) -> Iterator[Export]:
    """A new export file, by its ending; where the block raises, nothing has changed."""
    header = {MARK: FORMAT, "definition": definition}
    if _kind(path) == PARQUET_ENDING:
        with _writing_parquet(path, header) as export:
            yield export
        return
    with replacing(path) as file, _packed(file, path) as written:
        lines = _Lines(written)
        lines.write(header)
        yield lines
        lines.write({"end": True, "points": lines.count})


def _packed(file: IO[bytes], path: Path) -> AbstractContextManager[IO[bytes] | gzip.GzipFile]:
    if path.name.endswith(".gz"):
        return gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1, mtime=0)
    return nullcontext(file)


def read_header(path: Path) -> dict[str, Any]:
    """The definition that a file begins with. Raises Damaged; InvalidOption for what is no export."""
    if not path.is_file():
        raise InvalidOption(f"there is no file '{path}'", file=str(path))
    if _kind(path) == PARQUET_ENDING:
        with _reading(path) as file, _damage(path):
            text = (file.schema_arrow.metadata or {}).get(MARK.encode())
            return _definition(path, None if text is None else json.loads(text))
    return _definition(path, next(_lines(path))[1])


def read_points(path: Path) -> Iterator[dict[str, Any]]:
    """The points of a file. Raises Damaged, with the place, for what is not whole, when it comes to it."""
    points = _parquet_points(path) if _kind(path) == PARQUET_ENDING else _ndjson_points(path)
    before = ""
    for number, point in enumerate(points, 1):
        if number > 1 and point["id"].encode() <= before.encode():
            raise Damaged(f"{path.name}: point {number} ({point['id']!r:.80}) is not in the order of ids")
        before = point["id"]
        yield point


def _ndjson_points(path: Path) -> Iterator[dict[str, Any]]:
    lines = _lines(path)
    next(lines)
    count, ended = 0, False
    for number, value in lines:
        if ended:
            raise Damaged(f"{path.name}: line {number} comes after the end")
        if "end" in value:
            if value.get("points") != count:
                raise Damaged(
                    f"{path.name}: line {number} says that there are {value.get('points')} points, got {count}"
                )
            ended = True
            continue
        count += 1
        yield value
    if not ended:
        raise Damaged(f"{path.name} is cut off after line {count + 1}, which is point {count}; export it again")


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, value) of each line that is what was written."""
    number = 0
    try:
        for number, line in enumerate(split_lines(unpacked(wire.file_pieces(path)), MAX_LINE_BYTES), 1):
            if isinstance(line, Overlong) or not line.endswith(b"\n"):
                raise Damaged(f"{path.name}: line {number} is cut off; export it again")
            body, check = line[: -_CRC_BYTES - 1], line[-_CRC_BYTES - 1 :]
            if check != _check(body) + b"\n":
                what = "is damaged" if number > 1 else "is damaged, or the file is no export of bebr"
                raise Damaged(f"{path.name}: line {number} {what}")
            yield number, json.loads(body + b"}")
    except Malformed as error:
        raise Damaged(f"{path.name}: after line {number}: {error.detail}") from error
    if not number:
        raise Damaged(f"{path.name} is empty")


def _check(body: bytes) -> bytes:
    return _CRC + f'{crc32(body):08x}"}}'.encode()


class _Lines:
    """Lines with their checksums."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self._file = file
        self.count = 0

    def add(self, points: Points) -> None:
        for point in points:
            self.write(point)
        self.count += len(points)

    def write(self, value: Mapping[str, Any]) -> None:
        body = to_json(value)[:-1]
        self._file.write(body + _check(body) + b"\n")


class _Rows:
    """Rows of Parquet."""

    def __init__(self, writer: Any, schema: Any) -> None:
        self._writer = writer
        self._schema = schema

    def add(self, points: Points) -> None:
        import pyarrow as arrow

        columns = {
            "id": [point["id"] for point in points],
            "version_number": [point["version_number"] for point in points],
            "code": [b64decode(point["code_b64"]) for point in points],
            "metadata": [to_json(point["metadata"]).decode() for point in points],
        }
        self._writer.write_table(arrow.table(columns, schema=self._schema))


@contextmanager
def _writing_parquet(path: Path, header: Mapping[str, Any]) -> Iterator[_Rows]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as error:
        raise InvalidOption("Parquet files need pyarrow: install bebr with the extra [files]") from error
    kinds = [("id", arrow.string()), ("version_number", arrow.int32()), ("code", arrow.binary())]
    schema = arrow.schema([*kinds, ("metadata", arrow.string())]).with_metadata({MARK: to_json(header)})
    with (
        replacing(path) as file,
        parquet.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        yield _Rows(writer, schema)


def _parquet_points(path: Path) -> Iterator[dict[str, Any]]:
    number = 0
    with _reading(path, lambda: f"after row {number}") as file:
        for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
            for row in batch.to_pylist():
                number += 1
                with _damage(path, f"row {number}"):
                    yield {
                        "id": str(row["id"]),
                        "version_number": row["version_number"],
                        "code_b64": b64encode(row["code"]).decode(),
                        "metadata": json.loads(row["metadata"]),
                    }


@contextmanager
def _reading(path: Path, place: Callable[[], str] = lambda: "at its end") -> Iterator[Any]:
    try:
        with reading_parquet(path, place, page_checksum_verification=True) as file:
            yield file
    except Malformed as error:
        raise Damaged(f"{path.name}: {error.detail}") from error


@contextmanager
def _damage(path: Path, place: str = "its schema") -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{path.name}: {place} is no part of an export: {error!r:.200}") from error


def _definition(path: Path, header: Any) -> dict[str, Any]:
    if not isinstance(header, dict) or MARK not in header:
        raise InvalidOption(f"{path.name} is no export of bebr; files of points are read by `bebr ingest`")
    if header[MARK] != FORMAT:
        raise InvalidOption(f"{path.name} has format {header[MARK]}, and this release reads format {FORMAT}")
    definition: dict[str, Any] = header["definition"]
    return definition


def _kind(path: Path) -> str:
    name = path.name.lower()
    found = next((ending for ending in (*NDJSON_ENDINGS, PARQUET_ENDING) if name.endswith(ending)), None)
    if found is None:
        raise InvalidOption(
            f"expected a file that ends in {', '.join(NDJSON_ENDINGS)} or {PARQUET_ENDING}, got '{path.name}'"
        )
    return found
