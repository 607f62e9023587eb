"""Random samples of points, chosen by their ids: the points whose keys are smallest.

A key follows from the id alone and is spread evenly over 32 bits. So a sample is the same whoever draws it and in
whatever order its points were written, and it stays one while a collection grows: a point joins it, or never will.
"""

from collections.abc import Iterable
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

SALT = 0x9E3779B9
"""Keys are not those of the shards, or a shard's points would have much the same ones."""
ALL = 2**32
"""A bound that every key is below."""


def sample_keys(ids: Iterable[str]) -> NDArray[np.uint32]:
    """ids -> (ids,) uint32, as if each were drawn at random."""
    mixed = np.fromiter((crc32(point_id.encode("utf-8", "surrogatepass"), SALT) for point_id in ids), np.uint32)
    # the finalizer of MurmurHash3: a checksum of ids that are counted up is not random by itself
    mixed ^= mixed >> np.uint32(16)
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def smallest(keys: NDArray[np.uint32], count: int) -> NDArray[np.intp]:
    """keys (rows,) uint32 -> the places of the `count` smallest, or of all, by ascending key; equal ones in order."""
    return np.argsort(keys, kind="stable")[:count]
