"""Rows to train on, from a file of embeddings or of texts: checked, and repaired where that is safe.

`aligned_rows` reads the embeddings of the same texts by a second model.
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
MAX_QUERIES = 1_000_000
UNIT_WITHIN = 1e-3
"""A row whose length is this close to one counts as a unit row."""


@dataclass(frozen=True)
class TrainingRows:
    """The rows of a file."""

    rows: NDArray[np.float32]
    """(rows, embedding_dims): distinct unit rows."""
    notes: tuple[str, ...]
    """What was repaired, one sentence each."""
    kept: NDArray[np.int64]
    """(rows,): their numbers in the file."""
    read: int
    """Number of rows in the file."""


def training_rows(path: Path, embedder: TextEmbedder | None = None) -> TrainingRows:
    """Read and check a file: .npy, .fvecs or .parquet of embeddings, or .jsonl[.gz] of texts that `embedder` embeds.

    Rows of any length are scaled to length one, and duplicates are dropped; both are noted. Raises InvalidEmbeddings
    with the first row that is NaN, infinite or zero, or when all rows are the same; InvalidOption when `embedder` does
    not fit the file.
    """
    rows, unit = _read(path, embedder)
    notes = []
    lengths = np.linalg.norm(np.asarray(rows, np.float64), axis=1)
    if (odd := int((np.abs(lengths - 1) > UNIT_WITHIN).sum())) and odd < len(rows):
        notes.append(f"{odd:,} of {len(rows):,} rows were not of length one; all rows were scaled to length one")
    distinct = np.sort(np.unique(unit, axis=0, return_index=True)[1])
    if len(distinct) < len(unit):
        notes.append(f"{len(unit) - len(distinct):,} duplicate rows were dropped")
    if len(distinct) == 1:
        raise InvalidEmbeddings(f"'{path}': all embeddings are the same")
    return TrainingRows(np.ascontiguousarray(unit[distinct]), tuple(notes), distinct, len(rows))


def aligned_rows(
    path: Path, first: TrainingRows, dims: int | None = None, embedder: TextEmbedder | None = None
) -> NDArray[np.float32]:
    """Read the embeddings of the same texts by another model: unit rows (rows, dims), in the order of `first`.

    Row i of this file belongs to row i of the first file. Raises InvalidEmbeddings when the files have different
    numbers of rows, DimensionMismatch when the rows do not have `dims` dims, and what `training_rows` raises.
    """
    unit = _read(path, embedder)[1]
    if len(unit) != first.read:
        raise InvalidEmbeddings(
            f"'{path}' has {len(unit):,} rows, the data {first.read:,}: row i of both files must be the same text"
        )
    if dims is not None and unit.shape[1] != dims:
        raise DimensionMismatch(f"'{path}' has rows of {unit.shape[1]} dims, but the model of the bundle makes {dims}")
    return np.ascontiguousarray(unit[first.kept])


def judged_pairs(folder: Path, model: str | None, dims: int, embedder: TextEmbedder | None = None) -> Pairs:
    """Read the queries, documents and relevance judgments of a collection folder.

    embedder: embeds the texts of a folder without embeddings. model: which embeddings to read, where there are several.
    Raises InvalidOption, DimensionMismatch when they do not have `dims` dims.
    """
    collection = open_collection(
        folder, MAX_QUERIES, model=model, embedder=None if has_embeddings(folder) else embedder
    )
    if collection.dims != dims:
        raise DimensionMismatch(f"'{folder}' has embeddings of {collection.dims} dims, the rows have {dims}")
    return Pairs.of_collection(collection)


def is_text(path: Path) -> bool:
    """Whether a file has texts rather than embeddings, by its suffix."""
    return path.name.endswith(TEXTS)


def _read(path: Path, embedder: TextEmbedder | None) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """(the rows of the file, the same as unit rows)."""
    if is_text(path) and embedder is None:
        raise InvalidOption(f"'{path}' has texts, which need a bundle with an embedding model: give one with --base")
    if not is_text(path) and not path.name.endswith(SUFFIXES):
        raise InvalidOption(f"'{path}': expected {', '.join((*SUFFIXES, *TEXTS))}")
    rows = embed_file(path, embedder, TextKind.PASSAGE) if is_text(path) and embedder is not None else read_rows(path)
    try:
        return rows, check_embeddings(rows, rows.shape[-1])
    except BebrError as error:
        raise InvalidEmbeddings(f"'{path}': {error.detail}", **error.fields) from error
