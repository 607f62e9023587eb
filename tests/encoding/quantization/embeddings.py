"""Embeddings made for the tests: clusters in a space whose spectrum falls, as those of text do."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIMS = 64


def text_like(rows: int, seed: int = 0, common_mean: float = 0.0, dims: int = DIMS) -> NDArray[np.float32]:
    """(rows, dims) float32, unit rows. common_mean: length of a vector added to all, where the rest has length one.

    The space (axes, spectrum, cluster centers) is always the same; `seed` draws other rows of it.
    """
    space, draw = np.random.default_rng(100), np.random.default_rng(seed)
    axes = np.linalg.qr(space.normal(size=(dims, dims)))[0] * np.arange(1, dims + 1) ** -0.4
    centers = space.normal(size=(40, dims))
    latent = centers[draw.integers(0, 40, rows)] + draw.normal(size=(rows, dims))
    values = latent @ axes.T
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    mean = space.normal(size=dims)
    values += common_mean * mean / np.linalg.norm(mean)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def nearest(queries: NDArray[np.float32], rows: NDArray[np.float32], k: int = 10) -> NDArray[np.int64]:
    """(queries, k): rows of the largest inner products, in no order."""
    return np.argpartition(-(queries @ rows.T), k, axis=1)[:, :k]


def recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    return float(np.mean([np.isin(f, t).mean() for f, t in zip(found, truth, strict=True)]))


def _unfit() -> Iterator[tuple[Any, str]]:
    rows = text_like(100)
    for value in (np.nan, np.inf):
        broken = rows.copy()
        broken[17, 3] = value
        yield broken, "row 17 holds NaN or infinity"
    yield np.vstack([rows[:5], np.zeros((1, DIMS), np.float32), rows]), "row 5 is all zeros"
    yield np.repeat(rows[:1], 500, axis=0), "all embeddings are the same"
    yield rows[: DIMS - 1], "63 rows are too few"
    for shape in (rows[0], rows[:0], rows[None]):
        yield shape, "2-D"
    yield (rows * 100).astype(np.int8), "floats, got int8"
    for kind in (rows.astype(complex), [["a"] * DIMS] * 100):
        yield kind, "floats"


UNFIT = list(_unfit())
"""(embeddings, what the error says): what every fit refuses."""
