"""Measures a binarizer on embeddings of points: what its codes find, and how far they are from what they stand for."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.core.codes import CodeSpec, code_values
from bebr.errors import Incompatible

RECALL_AT = 10


class Coder(Protocol):
    """Codes of one binarizer: an `Encoder` is one."""

    @property
    def spec(self) -> CodeSpec: ...

    @property
    def steps(self) -> Floats: ...

    def project(self, embeddings: Floats) -> Floats: ...

    def encode(self, embeddings: Floats) -> NDArray[np.uint8]: ...

    def decode(self, records: NDArray[np.uint8]) -> Floats: ...


@dataclass(frozen=True, slots=True)
class Quality:
    """What was measured of a binarizer."""

    recall: float
    """recall@10: the share of the 10 nearest by float cosine that the scan codes find."""
    queries: int
    searched: int
    """Among how many rows."""
    error: float | None
    """Mean of 1 - cosine of a row and what its code stands for; None where codes stand for no embedding."""
    rescored_recall: float | None = None
    """The same share for the finer scores of all rows; None without a rescore code."""


class _Nearest:
    """The best rows of each query so far, of rows that come in batches."""

    def __init__(self, queries: int) -> None:
        self._scores = np.full((queries, RECALL_AT), -np.inf, np.float32)
        self._rows = np.full((queries, RECALL_AT), -1, np.int64)

    def add(self, scores: Floats, first: int) -> None:
        """scores (queries, rows) of the rows from `first` on."""
        numbers = np.broadcast_to(np.arange(first, first + scores.shape[1]), scores.shape)
        rows, scores = np.hstack([self._rows, numbers]), np.hstack([self._scores, scores])
        best = np.argpartition(-scores, RECALL_AT - 1, axis=1)[:, :RECALL_AT]
        self._scores, self._rows = np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)

    def shared(self, found: "_Nearest") -> float:
        """The share of these rows that others found."""
        both = zip(self._rows, found._rows, strict=True)
        shared = sum(len(np.intersect1d(one[one >= 0], other[other >= 0])) for one, other in both)
        return shared / max(1, int((self._rows >= 0).sum()))


def measure(coder: Coder, queries: Floats, batches: Iterable[Floats]) -> Quality:
    """Search batches of unit rows (rows, embedding_dims) float32 with unit queries, which are none of them."""
    exact, scanned, rescored = (_Nearest(len(queries)) for _ in range(3))
    projected, searched, errors = coder.project(queries), 0, []
    for rows in batches:
        records = coder.encode(rows)
        exact.add(queries @ rows.T, searched)
        scanned.add(projected @ code_values(records, coder.spec, coder.steps).T, searched)
        if (decoded := _decoded(coder, records)) is not None:
            errors.append(_errors(rows, decoded))
            if coder.spec.rescore is not None:
                rescored.add(queries @ decoded.T, searched)
        searched += len(rows)
    return Quality(
        recall=exact.shared(scanned),
        queries=len(queries),
        searched=searched,
        error=float(np.concatenate(errors).mean()) if errors else None,
        rescored_recall=None if coder.spec.rescore is None else exact.shared(rescored),
    )


def error_of(coder: Coder, rows: Floats) -> float | None:
    """Mean of 1 - cosine of unit rows and what their codes stand for; None where that is nothing."""
    decoded = _decoded(coder, coder.encode(rows))
    return None if decoded is None else float(_errors(rows, decoded).mean())


def _decoded(coder: Coder, records: NDArray[np.uint8]) -> Floats | None:
    """What records stand for, the finer codes where there are some; None where that is nothing."""
    try:
        return coder.decode(records)
    except Incompatible:
        return None


def _errors(rows: Floats, decoded: Floats) -> Floats:
    lengths = np.maximum(np.linalg.norm(decoded, axis=1), np.finfo(np.float32).tiny)
    errors: Floats = 1 - np.einsum("ij,ij->i", rows, decoded) / lengths
    return errors
