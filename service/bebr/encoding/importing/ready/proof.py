"""Runs a new graph as a bundle would: are its embeddings finite, of one size, and the same alone as in a batch?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.encoding.bundles.writer import EMBEDDING_GRAPH, EMBEDDING_WEIGHTS
from bebr.encoding.embedding.tokenization import TextTokenizer
from bebr.encoding.onnx.session import ATTENTION_MASK, EMBEDDING, INPUT_IDS, open_session
from bebr.errors import DamagedBundle, InvalidCheckpoint

if TYPE_CHECKING:
    import onnxruntime

TEXTS = ("a", "Parse a date: 2024-05-01?", "The quick brown fox jumps over the lazy dog. " * 3)
LONGEST = 1024
"""Tokens of the longest text that is tried."""


@dataclass(frozen=True)
class Proof:
    """What was found."""

    dims: int
    """Of an embedding."""
    least_cosine: float
    """Between the embedding of a text alone and that of the same text in a batch."""


def prove(graph: bytes, weights: bytes | None, tokenizer: bytes, max_length: int, file: str) -> Proof:
    """Run a graph that has the inputs and the output of a bundle's.

    Raises InvalidCheckpoint where it cannot be loaded or run, or its embeddings are no numbers or not of one size.
    """
    encoded = TextTokenizer(tokenizer, max_length)
    rows = encoded.encode(TEXTS)
    longest = encoded.encode([TEXTS[2] * 400])[0][:LONGEST]
    rows.append([*rows[0][:-1], encoded.largest_id, *rows[0][-1:]])
    with TemporaryDirectory() as folder:
        path = Path(folder) / EMBEDDING_GRAPH
        path.write_bytes(graph)
        if weights is not None:
            path.with_name(EMBEDDING_WEIGHTS).write_bytes(weights)
        try:
            session = open_session(path, weights=None if weights is None else EMBEDDING_WEIGHTS)
        except DamagedBundle as error:
            raise InvalidCheckpoint(f"{file}: {error.detail}", file=file) from error
        alone = np.concatenate([_run(session, [row], file) for row in rows])
        together = _run(session, rows, file)
        try:
            _run(session, [longest], file)
        except InvalidCheckpoint as error:
            raise InvalidCheckpoint(
                f"{error.detail}. Texts of max_length {max_length} tokens must work; give a smaller max_length",
                file=file,
            ) from error
    return Proof(alone.shape[1], float((alone * together).sum(axis=1).min()))


def _run(session: "onnxruntime.InferenceSession", rows: Sequence[Sequence[int]], file: str) -> Floats:
    """Token ids of some texts -> their embeddings (rows, dims) float32."""
    mask = np.zeros((len(rows), max(map(len, rows))), np.int64)
    ids: NDArray[np.int64] = np.zeros_like(mask)
    for number, row in enumerate(rows):
        mask[number, : len(row)] = 1
        ids[number, : len(row)] = row
    try:
        found: Floats = session.run([EMBEDDING], {INPUT_IDS: ids, ATTENTION_MASK: mask})[0]
    except Exception as error:  # ONNX Runtime's classes of errors have no common base but Exception.
        raise InvalidCheckpoint(
            f"{file} fails on {len(rows)} texts of {mask.shape[1]} tokens: {error}", file=file
        ) from error
    if found.ndim != 2 or len(found) != len(rows) or found.shape[1] < 1:
        raise InvalidCheckpoint(
            f"{file} makes embeddings of shape {found.shape} of {len(rows)} texts; expected one row for each", file=file
        )
    if not np.isfinite(found).all() or not np.any(found, axis=1).all():
        raise InvalidCheckpoint(f"{file} makes embeddings that are not finite, or all zeros", file=file)
    return found
