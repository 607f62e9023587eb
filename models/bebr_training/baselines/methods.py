"""The table of baselines: their names in `--baselines`, and their labels in tables and plots."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from bebr.errors import InvalidOption
from bebr_training.baselines import faiss_methods, numpy_methods
from bebr_training.baselines.numpy_methods import Variants

BASELINES: Mapping[str, tuple[str, Variants]] = {
    "sign": ("sign", numpy_methods.sign),
    "sign-centered": ("sign, centered", numpy_methods.sign_centered),
    "itq": ("ITQ", numpy_methods.itq),
    "pca-float16": ("PCA, float16", numpy_methods.pca_float(np.float16)),
    "pca-float32": ("PCA, float32", numpy_methods.pca_float(np.float32)),
    "sq4": ("PCA, SQ4", faiss_methods.sq4),
    "pq": ("PQ", numpy_methods.pq),
    "opq": ("OPQ", numpy_methods.opq),
    "rabitq": ("RaBitQ", faiss_methods.rabitq(count_factors=True)),
    "rabitq-free": ("RaBitQ, factors free", faiss_methods.rabitq(count_factors=False)),
}
ALL, NONE = "all", "none"


def choose_baselines(given: str) -> dict[str, Variants]:
    """'all', 'none' or names separated by commas -> label -> variants. Raises InvalidOption that lists all names."""
    names = {ALL: list(BASELINES), NONE: []}.get(given, [name.strip() for name in given.split(",")])
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise InvalidOption(f"--baselines: expected all, none or some of {', '.join(BASELINES)}, got '{unknown[0]}'")
    return dict(BASELINES[name] for name in names)


def use_threads(threads: int) -> int:
    """Set the threads of faiss, all cores for 0, and return how many that is. BLAS keeps its own setting."""
    count = threads or os.cpu_count() or 1
    faiss_methods.set_threads(count)
    return count


def parse_sizes(given: str, option: str = "--bytes") -> Sequence[int]:
    """'32,64,128' -> [32, 64, 128], sorted, without duplicates. Raises InvalidOption."""
    try:
        sizes = sorted({int(part) for part in given.split(",")})
    except ValueError:
        raise InvalidOption(f"{option}: expected sizes such as 64 or 32,64,128, got '{given}'") from None
    if sizes[0] < 1:
        raise InvalidOption(f"{option}: a code has at least 1 byte, got {sizes[0]}")
    return sizes
