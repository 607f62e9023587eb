"""The files of one ingestion as NDJSON, and which row of which file each of its lines is."""

import glob
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bebr.cli.files.columns import NO_OPTIONS, FileOptions, Target
from bebr.cli.files.json_files import JsonArray, JsonFile, beir_corpus
from bebr.cli.files.reader import STDIN, Reader
from bebr.cli.files.table_files import ParquetFile
from bebr.cli.files.text_files import CsvFile, TextFile
from bebr.cli.files.vector_files import VECTOR_ENDINGS, VectorFile
from bebr.client import wire
from bebr.client.values import from_json, to_json
from bebr.core.rows import Row
from bebr.errors import BebrError, InvalidOption, InvalidRequest

NDJSON_ENDINGS = (".ndjson", ".jsonl")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
TEXT_ENDINGS = (*NDJSON_ENDINGS, ".json", *DELIMITERS, ".txt")
"""Of files that may be gzipped."""
_SPACE = b"\xef\xbb\xbf \t\r\n"
ENDINGS = (*TEXT_ENDINGS, ".parquet", *VECTOR_ENDINGS)
MAX_LISTED = 10_000
"""Beyond this, rejected rows are still counted but no longer listed."""


@dataclass(slots=True)
class Rejected:
    """Rows that were not sent."""

    count: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    """As a job lists them: line, id, error, detail."""

    def add(self, line: int | None, error: BebrError, place: Mapping[str, Any]) -> None:
        self.count += 1
        if len(self.errors) < MAX_LISTED:
            named: dict[str, Any] = {"line": line, "id": None, "error": type(error).__name__, "detail": error.detail}
            self.errors.append({**named, **place})


class Sources:
    """Files that were opened, so that what they cannot be is known before anything is sent.

    Raises InvalidOption for a file that is not there, or of another kind, and for options that do not apply to it;
    Malformed for what it is not.
    """

    def __init__(self, files: Sequence[str], options: FileOptions = NO_OPTIONS) -> None:
        """files: paths, patterns, folders in the format of BEIR; `-` is stdin. options: apply to all of them."""
        paths = [path for file in files for path in paths_of(file)]
        if options.ids is not None and len(paths) != 1:
            raise InvalidOption(f"--ids belongs to one file, got {len(paths)}", option="--ids")
        self.readers = [_opened(path, options) for path in paths]
        if len({reader.name for reader in self.readers}) < len(self.readers):
            for reader in self.readers:
                reader.name = str(reader.path or STDIN)
        self.rejected = Rejected()
        self._starts: list[int] = []
        """Line of the body before the first one of each file."""

    @property
    def name(self) -> str:
        first, *others = self.readers
        return f"{first.name} and {len(others)} more" if others else first.name

    @property
    def size_bytes(self) -> int | None:
        """How large they are together; None where one is stdin."""
        sizes = [reader.size_bytes for reader in self.readers]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def read_bytes(self) -> int:
        """How much was read of them."""
        return sum(reader.read_bytes for reader in self.readers)

    def said(self) -> list[str]:
        """What was taken from the columns of which file; files that are alike are said once."""
        files: dict[str, list[str]] = {}
        for reader in self.readers:
            if (said := reader.said()) is not None:
                files.setdefault(said, []).append(reader.name)
        return [
            f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {said}" for said, names in files.items()
        ]

    def check_texts(self, text_field: str | None) -> None:
        """Raise InvalidOption where texts are named that nothing is made of. text_field: that of the collection."""
        for reader in self.readers:
            columns = reader.columns
            if columns is not None and columns.vector is not None and reader.options.text_fields and text_field is None:
                raise InvalidOption(
                    f"{reader.name} has vectors in '{columns.vector}', so --text-field applies only where the "
                    "collection keeps texts: create it with --keep-text, or leave the option out",
                    option="--text-field",
                )

    def first_point(self) -> Mapping[str, Any] | None:
        """The first point that can be read; None: there is none among the first rows."""
        for reader in self.readers:
            with reader.named():
                for row in reader.sample():
                    if isinstance(row.point, bytes):
                        try:
                            found = from_json(row.point)
                        except ValueError:
                            continue
                        if isinstance(found, dict):
                            return found
                    elif not isinstance(row.point, BebrError):
                        return row.point
        return None

    def body(self, target: Target) -> Path | Iterable[bytes]:
        """What `Client.ingest` takes. target: the collection."""
        (only, *others) = self.readers
        if not others and type(only) is JsonFile and only.columns is None:
            self._starts = [0]
            return only.path or only.raw_pieces()
        return self._lines(target)

    def place(self, line: int | None) -> dict[str, Any]:
        """Where a line of the body is from: `file` where there are several, and its `line` there."""
        if line is None or not self._starts:
            return {}
        number = max(0, bisect_right(self._starts, line - 1) - 1)
        return self._placed(self.readers[number], line - self._starts[number])

    def unit(self, name: str | None) -> str:
        """What the rows of a file are called."""
        return next((reader.unit for reader in self.readers if reader.name == name), self.readers[0].unit)

    def in_order(self, errors: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Errors of rows in the order of the files."""
        order = {reader.name: number for number, reader in enumerate(self.readers)}
        return sorted(errors, key=lambda error: (order.get(error.get("file", ""), 0), error["line"] or math.inf))

    def _placed(self, reader: Reader, line: int | None) -> dict[str, Any]:
        return {"line": line} | ({"file": reader.name} if len(self.readers) > 1 else {})

    def _lines(self, target: Target) -> Iterator[bytes]:
        """Each point in the line that it has in its file, after those of the files before."""
        self._starts, self.rejected = [], Rejected()
        writer = _LineWriter()
        count = 0
        for reader in self.readers:
            start = writer.line
            self._starts.append(start)
            last, seen = 0, 0
            try:
                with reader.named():
                    for row in reader.rows(target, count):
                        last, seen = row.line, seen + 1
                        try:
                            writer.add(start + row.line, _json_of(row))
                        except InvalidRequest as error:
                            self.rejected.add(row.line, error, self._placed(reader, row.line))
                        if writer.is_full:
                            yield writer.take()
            except InvalidRequest as error:  # the rest cannot be read; what came before is right
                line = error.fields.get("line")
                self.rejected.add(line, error, self._placed(reader, line))
            count += last if isinstance(reader, TextFile) else seen
            writer.skip_to(start + max(last, reader.lines))
        if rest := writer.take():
            yield rest


class _LineWriter:
    """NDJSON in pieces, with each text in a line that is named."""

    def __init__(self) -> None:
        self.line = 0
        self._piece = bytearray()

    @property
    def is_full(self) -> bool:
        return len(self._piece) >= wire.PIECE_BYTES

    def add(self, line: int, text: bytes) -> None:
        self.skip_to(line - 1)
        self._piece += text + b"\n"
        self.line = line

    def skip_to(self, line: int) -> None:
        """Leave lines empty up to this one."""
        self._piece += b"\n" * (line - self.line)
        self.line = max(self.line, line)

    def take(self) -> bytes:
        taken = bytes(self._piece)
        self._piece.clear()
        return taken


def _json_of(row: Row) -> bytes:
    """Raises what the row was rejected for, or why JSON cannot say it."""
    if isinstance(row.point, BebrError):
        raise row.point
    return row.point if isinstance(row.point, bytes) else to_json(wire.point_json(row.point))


def paths_of(file: str) -> list[Path | None]:
    """The files that a name, a folder or a pattern stands for; None for stdin."""
    if file == STDIN:
        return [None]
    if glob.has_magic(file) and not Path(file).exists():
        names = sorted(glob.glob(file, recursive=True))  # noqa: PTH207 - the pattern may be absolute
        found = [Path(name) for name in names if Path(name).is_file()]
        if not found:
            raise InvalidOption(f"no file matches '{file}'", file=file)
        return list(found)
    path = Path(file)
    if path.is_dir() and beir_corpus(path, NO_OPTIONS) is None:
        return [*data_files(path)] or [path]
    return [path]


def data_files(folder: Path) -> list[Path]:
    """The files in a folder that can be read, in the order of their names; those that begin with . or _ are no data."""
    named = sorted(path for path in folder.iterdir() if path.name[0] not in "._" and path.is_file())
    return [path for path in named if Path(path.name.lower().removesuffix(".gz")).suffix in ENDINGS]


def _opened(path: Path | None, options: FileOptions) -> Reader:
    if path is not None and path.is_dir():
        corpus = beir_corpus(path, options)
        if corpus is None:
            raise InvalidOption(
                f"the folder '{path}' has no corpus.jsonl, as those of BEIR have, and no other file that ends in "
                f"{', '.join(ENDINGS)}",
                file=str(path),
            )
        return corpus
    ending = NDJSON_ENDINGS[0] if path is None else _ending(path)
    if options.delimiter is not None and (path is None or ending in (*DELIMITERS, ".txt")):
        return CsvFile(path, options, options.delimiter)
    if ending in DELIMITERS:
        return CsvFile(path, options, DELIMITERS[ending])
    if ending == ".txt":
        return TextFile(path, options)
    if path is not None and ending == ".parquet":
        return ParquetFile(path, options)
    if path is not None and ending in VECTOR_ENDINGS:
        return VectorFile(path, options)
    if ending == ".json" and _is_array(path):
        return JsonArray(path, options)
    return JsonFile(path, options)


def _is_array(path: Path | None) -> bool:
    """Whether a .json file is an array; else it has an object a line."""
    found = JsonFile(path, NO_OPTIONS)
    with found.named():
        return next((piece for piece in found.beginning() if piece), b"").lstrip(_SPACE).startswith(b"[")


def _ending(path: Path) -> str:
    name = path.name.lower()
    unzipped = name.removesuffix(".gz")
    ending = Path(unzipped).suffix
    if ending not in ENDINGS and not path.exists():
        raise InvalidOption(f"there is no file or folder '{path}'", file=str(path))
    if ending not in ENDINGS or (name != unzipped and ending not in TEXT_ENDINGS):
        raise InvalidOption(
            f"expected a {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]} file, those of text optionally .gz, got "
            f"'{path.name}'"
        )
    if not path.is_file():
        raise InvalidOption(f"there is no file '{path}'", file=str(path))
    return ending
