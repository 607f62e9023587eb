"""Codes of real embeddings, and perturbed copies of them where more are wanted than there are: those are for costs."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bebr.encoding import BundleRegistry, shipped_bundles
from bebr.encoding.encoder import Encoder

BUNDLE = "minilm@1"
CHUNK = 10_000
QUERIES = 1_000
"""The last rows of the real ones; nobody stores them."""


def real_codes(data: Path, rows: int, cache: Path) -> NDArray[np.uint8]:
    """Codes (n, bytes) uint8 of up to `rows` embeddings of collections in `data`, shuffled; kept in `cache`."""
    if cache.exists():
        return np.load(cache)
    embeddings = [_read(path, rows) for path in sorted(data.glob("*/db.new.i8.npy"))]
    if not embeddings:
        raise SystemExit(f"no embeddings in {data}")
    every = np.concatenate(embeddings)
    every = every[np.random.default_rng(0).permutation(len(every))[:rows]]
    encoder = Encoder(BundleRegistry([shipped_bundles()]).get(BUNDLE), threads=2)
    size = encoder.spec.code_size_bytes
    codes = np.concatenate([encoder.encode(every[i : i + CHUNK])[:, :size] for i in range(0, len(every), CHUNK)])
    np.save(cache, codes)
    return codes


def _read(path: Path, rows: int) -> NDArray[np.float32]:
    scale = np.load(path.with_name("db.new.scale.npy"))[:rows]
    found = np.load(path, mmap_mode="r")[:rows].astype(np.float32) * scale[:, None]
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def stored(real: NDArray[np.uint8], points: int) -> Iterator[NDArray[np.uint8]]:
    """`points` codes, some at a time: real ones but for the queries, then copies with an eighth of the bits flipped."""
    rng = np.random.default_rng(1)
    kept = real[:-QUERIES]
    for start in range(0, points, CHUNK):
        rows = np.arange(start, min(start + CHUNK, points)) % len(kept)
        codes = kept[rows]
        if start >= len(kept):
            masks = rng.integers(0, 256, (3, *codes.shape), dtype=np.uint8)
            codes = codes ^ (masks[0] & masks[1] & masks[2])
        yield codes
