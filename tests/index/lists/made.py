"""Centroids of no meaning, for tests that hold answers to be the same whatever the lists are."""

import numpy as np

from bebr.core.codes import CodeSpec
from bebr.core.lists import Centroids
from bebr.core.scoring import DotQueries


def random_centroids(
    rng: np.random.Generator, spec: CodeSpec, version: int = 0, generation: int = 1, lists: int = 5
) -> Centroids:
    values = rng.integers(-127, 128, (lists, spec.dims)).astype(np.int8)
    scales = rng.random((lists, len(spec.blocks))).astype(np.float32)
    assigning = DotQueries(rng.integers(-127, 128, values.shape).astype(np.int8), scales)
    return Centroids(version, generation, spec, values, scales, assigning)
