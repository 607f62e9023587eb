""".npy and .fvecs: vectors without ids, which stand in a file beside or are the numbers of the rows, from 0."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.cli.files.columns import FileOptions, Target
from bebr.cli.files.reader import Numbered, Reader, Share
from bebr.client import wire
from bebr.core.decoding import BOM, Overlong, split_lines, unpacked
from bebr.core.rows import Row, decode_text
from bebr.errors import BebrError, InvalidOption, Malformed

VECTOR_ENDINGS = (".npy", ".fvecs")


class VectorFile(Reader):
    """Rows of vectors, mapped and never held."""

    unit = "row"
    takes = ("--ids",)

    def __init__(self, path: Path, options: FileOptions) -> None:
        super().__init__(path, options)
        with self.named():
            self._vectors = _npy(path) if path.name.lower().endswith(".npy") else _fvecs(path)
        self.count = len(self._vectors)
        self._ids = None if options.ids is None else Path(options.ids)
        if self._ids is not None:
            self._check_ids(self._ids)

    def said(self) -> str:
        count, dims = self._vectors.shape
        ids = f"ids from {self._ids.name}" if self._ids is not None else "ids are numbers of rows, from 0"
        return f"{ids}, {count:,} vectors of {dims} dims, no metadata"

    def numbered(self, target: Target, first: int, share: Share) -> Iterator[Numbered]:
        rows = range(share.start, len(self._vectors) if share.stop is None else share.stop)
        ids = (
            (str(first + row) for row in rows) if self._ids is None else islice(_ids(self._ids), rows.start, rows.stop)
        )
        for row, point_id in zip(rows, ids, strict=True):
            self.lines = row + 1
            self.read_bytes = (self.size_bytes or 0) * self.lines // len(self._vectors)
            if isinstance(point_id, BebrError):
                yield row, Row(row + 1, point_id)
            else:
                yield row, Row(row + 1, {"id": point_id, "vector": self._vectors[row]})

    @property
    def numbers_ids(self) -> bool:
        return self._ids is None

    def sample(self) -> Iterator[Row]:
        return (Row(row + 1, {"vector": vector}) for row, vector in enumerate(self._vectors))

    def _check_ids(self, path: Path) -> None:
        if not path.is_file():
            raise InvalidOption(f"--ids: there is no file '{path}'", file=str(path))
        count = sum(1 for _ in _ids(path))
        if count != len(self._vectors):
            raise InvalidOption(
                f"--ids: {self.name} has {len(self._vectors)} vectors, and {path.name} {count} ids; expected one a "
                "line for each vector, in the same order"
            )


def _ids(path: Path) -> Iterator[str | BebrError]:
    """One id a line."""
    for number, line in enumerate(split_lines(unpacked(wire.file_pieces(path)))):
        if isinstance(line, Overlong):
            yield Malformed(f"{path.name}: line {number + 1} is no id: it has {len(line)} bytes")
            continue
        try:
            yield decode_text((line if number else line.removeprefix(BOM)).rstrip(b"\r\n"))
        except Malformed as error:
            yield error


def _npy(path: Path) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        raise Malformed(f"it is no whole .npy file: {error}") from error
    if found.ndim != 2 or found.dtype.kind not in "fiu":
        raise InvalidOption(f"expected an array (vectors, dims) of numbers, got {found.dtype} of shape {found.shape}")
    return found


def _fvecs(path: Path) -> NDArray[Any]:
    """Each row: its dims as int32, then so many float32."""
    size = path.stat().st_size
    if size < 4:
        raise Malformed("it is no .fvecs file: it is empty")
    raw = np.memmap(path, "<i4", "r", shape=(size // 4,))
    dims = int(raw[0])
    if dims < 1 or size % (4 * (dims + 1)):
        raise Malformed(
            f"it is no whole .fvecs file: its rows would have {dims} dims, and {size} bytes are no whole number of them"
        )
    rows = raw.reshape(-1, dims + 1)
    if (odd := np.flatnonzero(rows[:, 0] != dims)).size:
        raise Malformed(f"row {odd[0] + 1} says that it has {rows[odd[0], 0]} dims, and the first has {dims}")
    found: NDArray[Any] = rows[:, 1:].view("<f4")
    return found
