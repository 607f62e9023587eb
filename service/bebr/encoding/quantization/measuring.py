"""Measures a binarizer on embeddings of points: what its codes find, and how far they are from what they stand for."""

from collections.abc import Callable, Iterable
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
    """recall@10: the share of the 10 nearest by float cosine that the codes find."""
    queries: int
    searched: int
    """Among how many rows."""
    error: float | None
    """Mean of 1 - cosine of a row and what its code stands for; None where codes stand for no embedding."""


class _Nearest:
    """The best rows of each query so far, of rows that come in batches."""

    def __init__(self, queries: int) -> None:
        self._scores = np.full((queries, RECALL_AT), -np.inf, np.float32)
        self.rows = np.full((queries, RECALL_AT), -1, np.int64)

    def add(self, scores: Floats, first: int) -> None:
        """scores (queries, rows) of the rows from `first` on."""
        scores = np.hstack([self._scores, scores])
        places = np.broadcast_to(
            np.arange(first, first + scores.shape[1] - RECALL_AT), (len(scores), scores.shape[1] - RECALL_AT)
        )
        rows = np.hstack([self.rows, places])
        best = np.argpartition(-scores, RECALL_AT - 1, axis=1)[:, :RECALL_AT]
        self._scores, self.rows = np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)


def measure(
    coder: Coder, queries: Floats, batches: Iterable[Floats], check: Callable[[], None] | None = None
) -> Quality:
    """Search batches of unit rows (rows, embedding_dims) float32 with unit queries, which are none of them.

    check: called before each batch; what it raises ends the measurement.
    """
    exact, found = _Nearest(len(queries)), _Nearest(len(queries))
    score, searched, errors = _scorer(coder, queries), 0, []
    for rows in batches:
        if check is not None:
            check()
        records = coder.encode(rows)
        exact.add(queries @ rows.T, searched)
        found.add(score(records), searched)
        errors.append(_errors(coder, rows, records))
        searched += len(rows)
    shared = [
        len(np.intersect1d(one[one >= 0], other[other >= 0])) for one, other in zip(exact.rows, found.rows, strict=True)
    ]
    wanted = max(1, len(queries) * min(RECALL_AT, searched))
    error = (
        None
        if not errors or any(one is None for one in errors)
        else float(np.concatenate([e for e in errors if e is not None]).mean())
    )
    return Quality(sum(shared) / wanted, len(queries), searched, error)


def error_of(coder: Coder, rows: Floats) -> float | None:
    """Mean of 1 - cosine of unit rows and what their codes stand for; None where that is nothing."""
    errors = _errors(coder, rows, coder.encode(rows))
    return None if errors is None else float(errors.mean())


def _scorer(coder: Coder, queries: Floats) -> Callable[[NDArray[np.uint8]], Floats]:
    """Records -> scores (queries, rows) by adc, up to a constant for each query."""
    projected = coder.project(queries)

    def score(records: NDArray[np.uint8]) -> Floats:
        scores: Floats = projected @ code_values(records, coder.spec, coder.steps).T
        return scores

    return score


def _errors(coder: Coder, rows: Floats, records: NDArray[np.uint8]) -> Floats | None:
    try:
        decoded = coder.decode(records)
    except Incompatible:
        return None
    lengths = np.maximum(np.linalg.norm(decoded, axis=1), np.finfo(np.float32).tiny)
    errors: Floats = 1 - np.einsum("ij,ij->i", rows, decoded) / lengths
    return errors
