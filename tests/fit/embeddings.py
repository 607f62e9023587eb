"""Embeddings made for the tests: clusters in a space whose spectrum falls, as those of text do."""

import numpy as np
from numpy.typing import NDArray

DIMS = 64


def text_like(rows: int, seed: int = 0, common_mean: float = 0.0, dims: int = DIMS) -> NDArray[np.float32]:
    """(rows, dims) float32, unit rows. common_mean: length of a vector added to all, where the rest has length one.

    The space (axes, spectrum, cluster centres) is always the same; `seed` draws other rows of it.
    """
    space, draw = np.random.default_rng(100), np.random.default_rng(seed)
    axes = np.linalg.qr(space.normal(size=(dims, dims)))[0] * np.arange(1, dims + 1) ** -0.4
    centres = space.normal(size=(40, dims))
    latent = centres[draw.integers(0, 40, rows)] + draw.normal(size=(rows, dims))
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
