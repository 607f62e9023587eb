"""Product quantizers in numpy: PQ (Jégou, Douze and Schmid, 2011) and OPQ (Ge, He, Ke and Sun, 2013).

They do what those of faiss do, which a test checks. Every assignment is one matrix product per part of the vector,
which is much faster on a few cores than scanning 256 centroids, so that OPQ gets all the rounds that it needs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr_training.baselines.spectrum import closest_orthonormal, tight_frame

CENTROIDS = 256
CHUNK_ROWS = 2_048
"""The scores of a chunk against the centroids of one part fit into the cache."""
SPLIT = 1e-3
"""How far apart two centroids start that share the points of one, relative to their length."""
Codes = NDArray[np.uint8]


@dataclass(frozen=True)
class ProductQuantizer:
    """A trained quantizer.

    rotation (embedding_dims, dims) float32. centroids (parts, 256, dims / parts) float32, of rotated rows.
    """

    rotation: Floats
    centroids: Floats

    def encode(self, rows: Floats) -> Codes:
        """rows (rows, embedding_dims) float32 -> codes (rows, parts) uint8."""
        return _assign(rows @ self.rotation, self.centroids)

    def decode(self, codes: Codes) -> Floats:
        """codes (rows, parts) uint8 -> approximate rotated rows (rows, dims) float32."""
        return _decode(codes, self.centroids)


def train_pq(rows: Floats, parts: int, rounds: int, seed: int) -> ProductQuantizer:
    """Train on rows (rows, dims) float32. Dims that are not a multiple of `parts` are padded with zeros."""
    padding = np.eye(rows.shape[1], rows.shape[1] + -rows.shape[1] % parts, dtype=np.float32)
    padded = rows @ padding
    centroids = _lloyd(padded, _first_centroids(padded, parts, np.random.default_rng(seed)), rounds)
    return ProductQuantizer(padding, centroids)


def train_opq(rows: Floats, sample: Floats, parts: int, opq_rounds: int, rounds: int, seed: int) -> ProductQuantizer:
    """Train as `train_pq` does, with a rotation that is learned on `sample` (rows, dims), a part of the rows.

    Starts with a random rotation, as faiss does, then alternates one step of k-means with the rotation that is closest
    to the decoded codes (Procrustes). At the end the centroids are trained on all rows.
    """
    rng = np.random.default_rng(seed)
    dims = rows.shape[1]
    rotation = tight_frame(dims + -dims % parts, dims + -dims % parts, rng)[:dims]
    centroids = _first_centroids(sample @ rotation, parts, rng)
    for _ in range(opq_rounds):
        centroids, codes = _step(sample @ rotation, centroids)
        rotation = closest_orthonormal(sample.T @ _decode(codes, centroids))
    return ProductQuantizer(rotation, _lloyd(rows @ rotation, centroids, rounds))


def _first_centroids(rows: Floats, parts: int, rng: np.random.Generator) -> Floats:
    """256 of the rows, the same for every part; some repeat where there are fewer rows."""
    chosen = rows[rng.permutation(max(len(rows), CENTROIDS))[:CENTROIDS] % len(rows)]
    return np.ascontiguousarray(chosen.reshape(CENTROIDS, parts, -1).transpose(1, 0, 2))


def _lloyd(rows: Floats, centroids: Floats, rounds: int) -> Floats:
    """The centroids after some rounds of k-means in each part."""
    for _ in range(rounds):
        centroids, _ = _step(rows, centroids)
    return centroids


def _step(rows: Floats, centroids: Floats) -> tuple[Floats, Codes]:
    """One round of k-means in each part -> (the new centroids, the codes of the rows by the old ones).

    A centroid without rows is moved next to the one with the most, to take half of its rows in the next round.
    """
    width = centroids.shape[2]
    codes, moved = _assign(rows, centroids), np.empty_like(centroids)
    for part, code in enumerate(codes.T):
        values = rows[:, part * width : (part + 1) * width]
        counts = np.bincount(code, minlength=CENTROIDS)
        sums = [np.bincount(code, values[:, dim], CENTROIDS) for dim in range(width)]
        means = np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None]
        empty = np.flatnonzero(counts == 0)
        fullest = np.argsort(-counts, kind="stable")[: len(empty)]
        means[empty] = means[fullest] * (1 + SPLIT)
        means[fullest] *= 1 - SPLIT
        moved[part] = means
    return moved, codes


def _assign(rows: Floats, centroids: Floats) -> Codes:
    """rows (rows, dims) -> the nearest centroid of each part (rows, parts) uint8."""
    parts, _, width = centroids.shape
    codes = np.empty((len(rows), parts), np.uint8)
    halves = (centroids * centroids).sum(axis=2) / 2
    for part in range(parts):
        columns = np.ascontiguousarray(centroids[part].T)
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[start : start + CHUNK_ROWS, part * width : (part + 1) * width]
            # The nearest has the largest <x, c> - |c|^2 / 2.
            codes[start : start + CHUNK_ROWS, part] = (chunk @ columns - halves[part]).argmax(axis=1)
    return codes


def _decode(codes: Codes, centroids: Floats) -> Floats:
    decoded: Floats = centroids[np.arange(len(centroids)), codes].reshape(len(codes), -1)
    return decoded
