"""Sorted strings in two flat arrays: ids of a segment, words of a keyword column. No Python object per string."""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence, Set
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

CHUNK_ROWS = 2**16
"""Tables are made of so many strings at a time."""


class StringTable(Sequence[str]):
    """Distinct strings in ascending order of code points (which is the order of their UTF-8 bytes).

    offsets (n + 1,) uint64 into blob (bytes,) uint8. Both may be memory-mapped.
    """

    def __init__(self, offsets: NDArray[np.uint64], blob: NDArray[np.uint8]) -> None:
        self.offsets = offsets
        self.blob = blob
        self._bytes = np.ascontiguousarray(blob).data

    @classmethod
    def build(cls, ascending: Iterable[str]) -> "StringTable":
        """Sorted distinct strings -> StringTable."""
        encoded = [text.encode() for text in ascending]
        offsets = np.zeros(len(encoded) + 1, np.uint64)
        np.cumsum([len(item) for item in encoded], out=offsets[1:])
        return cls(offsets, np.frombuffer(b"".join(encoded), np.uint8))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, position: int) -> str:  # type: ignore[override]
        return str(self._bytes[int(self.offsets[position]) : int(self.offsets[position + 1])], "utf-8")

    def bytes_at(self, position: int) -> bytes:
        return bytes(self._bytes[int(self.offsets[position]) : int(self.offsets[position + 1])])

    def find(self, text: str) -> int:
        """Position of `text`, or -1."""
        position = bisect_left(self, text)
        return position if position < len(self) and self[position] == text else -1

    def find_any(self, texts: Set[str]) -> list[int]:
        """Positions of those of `texts` that are here: by binary search, or through the table where that is shorter."""
        if len(texts) * len(self).bit_length() < len(self):
            return [position for position in map(self.find, texts) if position >= 0]
        return [position for position, text in enumerate(self) if text in texts]

    def first_after(self, text: str) -> int:
        """Position of the first string greater than `text`."""
        position = bisect_left(self, text)
        return position + 1 if position < len(self) and self[position] == text else position

    def take(self, positions: Sequence[int]) -> list[str]:
        return [self[position] for position in positions]

    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets).astype(np.int64)

    def padded(self) -> NDArray[np.bytes_]:
        """(n,) fixed-width bytes, as wide as the longest string: what numpy sorts without holding the interpreter."""
        lengths = self.lengths()
        width = max(1, int(lengths.max(initial=0)))
        grid = np.zeros((len(self), width), np.uint8)
        grid[np.arange(width) < lengths[:, None]] = self.blob[int(self.offsets[0]) : int(self.offsets[-1])]
        return grid.view(f"S{width}").ravel()

    @classmethod
    def from_padded(
        cls, padded: NDArray[np.bytes_], lengths: NDArray[np.int64], order: NDArray[np.int64]
    ) -> "StringTable":
        """The inverse of `padded`. order (n,): which of them, in the order that they are to have."""
        width = padded.dtype.itemsize
        grid = np.ascontiguousarray(padded).view(np.uint8).reshape(len(padded), width)
        offsets = np.zeros(len(order) + 1, np.uint64)
        np.cumsum(lengths[order], out=offsets[1:])
        blob = np.empty(int(offsets[-1]), np.uint8)
        for start in range(0, len(order), CHUNK_ROWS):  # a copy of all would need as much memory again
            some = order[start : start + CHUNK_ROWS]
            first, end = int(offsets[start]), int(offsets[start + len(some)])
            blob[first:end] = grid[some][np.arange(width) < lengths[some, None]]
        return cls(offsets, blob)


def hash_strings(table: StringTable) -> NDArray[np.uint64]:
    """crc32 of each string: (n,) uint64."""
    return np.fromiter((crc32(table.bytes_at(i)) for i in range(len(table))), np.uint64, len(table))


def hashes_of(lookup: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The hashes (n,) uint64 by position, read back from a lookup."""
    hashes = np.empty(len(lookup), np.uint64)
    hashes[lookup & np.uint64(0xFFFFFFFF)] = lookup >> np.uint64(32)
    return hashes


def build_lookup(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash index of a StringTable: (n,) uint64, sorted; the hash of each string above, its position in the low half."""
    lookup = (hashes << np.uint64(32)) | np.arange(len(hashes), dtype=np.uint64)
    lookup.sort()
    return lookup


def find_many(table: StringTable, lookup: NDArray[np.uint64], texts: Collection[str]) -> NDArray[np.int64]:
    """Positions (len(texts),) int64 of `texts` in the table, -1 where absent.

    One vectorized binary search by hash; only strings whose hash is present are compared, so a batch of new ids
    touches no page of the table. Raises ValueError where a string of the table has not its hash.
    """
    encoded = [text.encode() for text in texts]
    hashes = np.fromiter(map(crc32, encoded), np.uint64, len(texts))
    starts = np.searchsorted(lookup, hashes << np.uint64(32))
    found = np.full(len(texts), -1, np.int64)
    inside = np.flatnonzero(starts < len(lookup))
    inside = inside[lookup[starts[inside]] >> np.uint64(32) == hashes[inside]]
    for i in inside.tolist():
        at = int(starts[i])
        while at < len(lookup) and int(lookup[at]) >> 32 == int(hashes[i]):
            position = int(lookup[at]) & 0xFFFFFFFF
            stored = table.bytes_at(position)
            if stored == encoded[i]:
                found[i] = position
                break
            if crc32(stored) != hashes[i]:
                raise ValueError(f"the id of row {position} is not what was written")
            at += 1
    return found
