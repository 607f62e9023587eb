"""Reads rows of floats from the files that hold embeddings: .npy, int8 .npy with scales, .fvecs and .parquet."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.errors import InvalidEmbeddings, InvalidOption

SUFFIXES = (".npy", ".fvecs", ".parquet")


def read_rows(path: Path) -> NDArray[Any]:
    """The rows (rows, dims) of a file, as numbers. A name that ends in .i8.npy represents integers times scales.

    A .npy file is mapped and not read, so it may be larger than memory. Raises InvalidEmbeddings naming the file when
    it is missing, is not of its kind, or holds no rows; InvalidOption when what reads Parquet is not installed.
    """
    if not path.is_file():
        raise InvalidEmbeddings(f"there is no file '{path}'")
    readers = {".fvecs": _fvecs, ".parquet": _parquet}
    read = _scaled if path.name.endswith(".i8.npy") else readers.get(path.suffix, read_array)
    rows = read(path)
    if rows.dtype.kind not in "fiu":
        raise InvalidEmbeddings(f"'{path}': expected embeddings of numbers, got {rows.dtype}")
    if rows.ndim != 2 or 0 in rows.shape:
        raise InvalidEmbeddings(f"'{path}': expected a 2-D array (rows, dims), got shape {rows.shape}")
    return rows


def read_array(path: Path) -> NDArray[Any]:
    """The array in a .npy file, mapped. Raises InvalidEmbeddings where it is none."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy raises whatever its parser of headers does
        raise InvalidEmbeddings(f"'{path}' is not a .npy file of numbers, as numpy.save writes them") from error


def _scaled(path: Path) -> NDArray[np.float32]:
    scales_path = path.with_name(path.name.removesuffix(".i8.npy") + ".scale.npy")
    rows, scales = read_array(path), read_array(scales_path)
    if rows.ndim != 2 or scales.shape != (len(rows),) or {rows.dtype.kind, scales.dtype.kind} - set("fiu"):
        raise InvalidEmbeddings(f"'{scales_path}': expected one scale for each row of '{path.name}', {rows.shape}")
    scaled: NDArray[np.float32] = rows.astype(np.float32) * scales.astype(np.float32)[:, None]
    return scaled


def _fvecs(path: Path) -> NDArray[np.float32]:
    """Each row is an int32 with the dims, then as many float32, little-endian (the format of the TEXMEX corpora)."""
    words = np.fromfile(path, "<i4")
    dims = int(words[0]) if len(words) else 0
    if dims < 1 or len(words) % (dims + 1) or path.stat().st_size % 4:
        raise InvalidEmbeddings(f"'{path}' is not an .fvecs file")
    table = words.reshape(-1, dims + 1)
    if (table[:, 0] != dims).any():
        raise InvalidEmbeddings(f"'{path}': rows differ in length")
    return np.ascontiguousarray(table[:, 1:]).view("<f4")


def _parquet(path: Path) -> NDArray[Any]:
    """The one column that holds lists of floats."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise InvalidOption(f"reading '{path}' needs pyarrow, which is not installed: pip install pyarrow") from error
    try:
        table = parquet.read_table(path)
    except (arrow.ArrowException, OSError) as error:
        raise InvalidEmbeddings(f"'{path}' is not a Parquet file: {error}") from error
    kinds = (arrow.types.is_list, arrow.types.is_large_list, arrow.types.is_fixed_size_list)
    lists = [field.name for field in table.schema if any(is_kind(field.type) for is_kind in kinds)]
    if len(lists) != 1:
        raise InvalidEmbeddings(f"'{path}': expected one column of lists of floats, got {', '.join(lists) or 'none'}")
    column = table[lists[0]].combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    if column.null_count or not len(column) or len(values) % len(column):
        raise InvalidEmbeddings(f"'{path}': rows of '{lists[0]}' are missing or differ in length")
    lengths = {len(row) for row in column}
    if len(lengths) > 1:
        raise InvalidEmbeddings(f"'{path}': rows of '{lists[0]}' differ in length")
    return np.asarray(values.reshape(len(column), -1))
