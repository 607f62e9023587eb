"""Rows to train on, from a file of embeddings or of texts: checked, repaired where that is safe, and counted.

Of two models whose embeddings must belong to the same texts, the second is read by `aligned_rows`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.encoding import TextKind
from bebr.encoding.embedding.files import SUFFIXES, read_rows
from bebr.encoding.embedding.vectors import check_embeddings
from bebr.errors import BebrError, DimensionMismatch, InvalidEmbeddings, InvalidOption
from bebr_training.data.collections import TextEmbedder, embed_file, has_embeddings, open_collection
from bebr_training.data.pairs import Pairs

TEXTS = (".jsonl", ".jsonl.gz")
MOST_QUERIES = 1_000_000
UNIT_WITHIN = 1e-3


@dataclass(frozen=True)
class TrainingRows:
    """rows (rows, embedding_dims) float32, unit, distinct. notes: what was repaired, in sentences.

    kept (rows,) int64: which of the `read` rows of the file they are.
    """

    rows: NDArray[np.float32]
    notes: tuple[str, ...]
    kept: NDArray[np.int64]
    read: int


def training_rows(path: Path, embedder: TextEmbedder | None = None) -> TrainingRows:
    """Read and check a file: .npy, .fvecs or .parquet of embeddings, or .jsonl[.gz] of texts that `embedder` embeds.

    Rows of any length are scaled to length one, and of equal rows one is kept: both are noted. Raises
    InvalidEmbeddings naming the first row that is NaN, infinite or zero, or when all rows are the same; InvalidOption
    when `embedder` does not fit the file.
    """
    rows, unit = _read(path, embedder)
    notes = []
    lengths = np.linalg.norm(np.asarray(rows, np.float64), axis=1)
    if (odd := int((np.abs(lengths - 1) > UNIT_WITHIN).sum())) and odd < len(rows):
        notes.append(f"{odd:,} of {len(rows):,} rows were not of length one, the others were: all count by direction")
    distinct = np.sort(np.unique(unit, axis=0, return_index=True)[1])
    if len(distinct) < len(unit):
        notes.append(f"{len(unit) - len(distinct):,} rows repeat another one and were left out")
    if len(distinct) == 1:
        raise InvalidEmbeddings(f"'{path}': all embeddings are the same; nothing can be told apart")
    return TrainingRows(np.ascontiguousarray(unit[distinct]), tuple(notes), distinct, len(rows))


def aligned_rows(
    path: Path, first: TrainingRows, dims: int | None = None, embedder: TextEmbedder | None = None
) -> NDArray[np.float32]:
    """Embeddings by another model of the texts of `first` -> unit rows (rows, dims), in its order; dims: expected.

    Row i of the file is that of row i of the first file. Raises InvalidEmbeddings when it has other rows,
    DimensionMismatch when it has other dims, and what `training_rows` does.
    """
    unit = _read(path, embedder)[1]
    if len(unit) != first.read:
        raise InvalidEmbeddings(
            f"'{path}' has {len(unit):,} rows, the data {first.read:,}: row i of both must be the same text"
        )
    if dims is not None and unit.shape[1] != dims:
        raise DimensionMismatch(f"'{path}' has rows of {unit.shape[1]} dims, the model they are to be of makes {dims}")
    return np.ascontiguousarray(unit[first.kept])


def judged_pairs(folder: Path, model: str | None, dims: int, embedder: TextEmbedder | None = None) -> Pairs:
    """The judged pairs of a collection folder as one model embeds them: `embedder`, where the folder holds texts alone.

    model: which embeddings, where there are several. Raises InvalidOption, DimensionMismatch when they have other dims.
    """
    collection = open_collection(
        folder, MOST_QUERIES, model=model, embedder=None if has_embeddings(folder) else embedder
    )
    if collection.dims != dims:
        raise DimensionMismatch(f"'{folder}' has embeddings of {collection.dims} dims, the rows have {dims}")
    return Pairs.of_collection(collection)


def is_text(path: Path) -> bool:
    return path.name.endswith(TEXTS)


def _read(path: Path, embedder: TextEmbedder | None) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """The rows as the file has them, and as unit rows."""
    if is_text(path) and embedder is None:
        raise InvalidOption(f"'{path}' holds texts: name the bundle that embeds them with --base")
    if not is_text(path) and not path.name.endswith(SUFFIXES):
        raise InvalidOption(f"'{path}': expected {', '.join((*SUFFIXES, *TEXTS))}")
    rows = embed_file(path, embedder, TextKind.PASSAGE) if is_text(path) and embedder is not None else read_rows(path)
    try:
        return rows, check_embeddings(rows, rows.shape[-1])
    except BebrError as error:
        raise InvalidEmbeddings(f"'{path}': {error.detail}", **error.fields) from error
