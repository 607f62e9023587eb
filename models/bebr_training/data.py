"""Rows to train on, from a file of embeddings or of texts: checked, repaired where that is safe, and counted."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bebr.encoding.embedding_files import SUFFIXES, read_rows
from bebr.encoding.manifest import TextKind
from bebr.encoding.vectors import check_embeddings
from bebr.errors import BebrError, InvalidEmbeddings, InvalidOption
from bebr_training.collections import TextEmbedder, embed_file

TEXTS = (".jsonl", ".jsonl.gz")
UNIT_WITHIN = 1e-3


@dataclass(frozen=True)
class TrainingRows:
    """rows (rows, embedding_dims) float32, unit, distinct. notes: what was repaired, in sentences."""

    rows: NDArray[np.float32]
    notes: tuple[str, ...]


def training_rows(path: Path, embedder: TextEmbedder | None = None) -> TrainingRows:
    """Read and check a file: .npy, .fvecs or .parquet of embeddings, or .jsonl[.gz] of texts that `embedder` embeds.

    Rows of any length are scaled to length one, and of equal rows one is kept: both are noted. Raises
    InvalidEmbeddings naming the first row that is NaN, infinite or zero, or when all rows are the same; InvalidOption
    when `embedder` does not fit the file.
    """
    is_text = path.name.endswith(TEXTS)
    if is_text and embedder is None:
        raise InvalidOption(f"'{path}' holds texts: name the bundle that embeds them with --base")
    if not is_text and not path.name.endswith(SUFFIXES):
        raise InvalidOption(f"'{path}': expected {', '.join((*SUFFIXES, *TEXTS))}")
    rows = embed_file(path, embedder, TextKind.PASSAGE) if is_text and embedder is not None else read_rows(path)
    try:
        unit = check_embeddings(rows, rows.shape[-1])
    except BebrError as error:
        raise InvalidEmbeddings(f"'{path}': {error.detail}", **error.fields) from error
    notes = []
    lengths = np.linalg.norm(np.asarray(rows, np.float64), axis=1)
    if (odd := int((np.abs(lengths - 1) > UNIT_WITHIN).sum())) and odd < len(rows):
        notes.append(f"{odd:,} of {len(rows):,} rows were not of length one, the others were: all count by direction")
    distinct = np.sort(np.unique(unit, axis=0, return_index=True)[1])
    if len(distinct) < len(unit):
        notes.append(f"{len(unit) - len(distinct):,} rows repeat another one and were left out")
    if len(distinct) == 1:
        raise InvalidEmbeddings(f"'{path}': all embeddings are the same; nothing can be told apart")
    return TrainingRows(np.ascontiguousarray(unit[distinct]), tuple(notes))
