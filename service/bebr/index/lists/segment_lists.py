"""The lists of a sealed segment, whose rows are sorted by (list, id), and its rows in ascending order of id."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bebr.core.lists import Centroids
from bebr.kernel import CentroidTable

PIECE_ROWS = 1024
"""The order of ids lies in a mapped file; so many rows of it are held to a checksum together, whenever one is read."""
SMALL_BYTES = 3
"""Of a row's number in that order, where there are no more rows than so many bytes can tell apart; else it has four."""


@dataclass(frozen=True, slots=True)
class SegmentLists:
    """Which rows are in which list, and their order by id."""

    generation: int
    """Of the centroids of the segment's code version."""
    begin: NDArray[np.uint32]
    """(lists + 1,): list l has the rows begin[l] up to begin[l + 1]."""
    order: NDArray[np.uint32] | NDArray[np.uint8]
    """(rows,) uint32 or (rows * SMALL_BYTES,) uint8: the rows in ascending order of id; may be mapped."""
    checks: NDArray[np.uint32]
    """(pieces,): crc32 of every PIECE_ROWS of `order`."""
    mean_score: float
    """Mean score of the rows to the centroids of their lists, when they were assigned."""
    checksum: int | None = None
    """Of the centroids, see there; None: the release that wrote the file did not know it."""

    @classmethod
    def of(
        cls,
        generation: int,
        numbers: NDArray[np.int32],
        count: int,
        mean_score: float = 0.0,
        checksum: int | None = None,
    ) -> tuple["SegmentLists", NDArray[np.int64]]:
        """The lists of rows, and the order that sorts them.

        numbers (rows,): the list of each row, in ascending order of id. -> order (rows,): which of these each row of
        the segment is.
        """
        order = np.argsort(numbers, kind="stable")
        begin = np.zeros(count + 1, np.uint32)
        np.cumsum(np.bincount(numbers, minlength=count), out=begin[1:])
        by_id = np.empty(len(order), np.uint32)
        by_id[order] = np.arange(len(order), dtype=np.uint32)
        stored = _small(by_id) if len(by_id) <= 2 ** (8 * SMALL_BYTES) else by_id
        checks = np.array([crc32(piece.data) for piece in _pieces(stored)], np.uint32)
        return cls(generation, begin, stored, checks, mean_score, checksum), order

    def __len__(self) -> int:
        return len(self.begin) - 1

    @property
    def is_small(self) -> bool:
        """Whether rows of the order have fewer than four bytes."""
        return self.order.dtype == np.uint8

    @property
    def rows(self) -> int:
        return len(self.order) // (SMALL_BYTES if self.is_small else 1)

    def are_of(self, centroids: Centroids | CentroidTable) -> bool:
        """Whether these are the centroids by which the rows were sorted. A store that lost track of generations may
        give a number twice."""
        is_numbered = self.generation == centroids.generation and len(self) == len(centroids)
        return is_numbered and (None in (known := (self.checksum, centroids.checksum)) or known[0] == known[1])

    def numbers(self) -> NDArray[np.int32]:
        """(rows,): the list of each row."""
        begin = self.begin.astype(np.int64)
        return np.repeat(np.arange(len(self), dtype=np.int32), begin[1:] - begin[:-1])

    def row_at(self, position: int) -> int:
        """The row whose id is at this position among all. Raises ValueError where that is not what was written."""
        stored, at = self._stored(position // PIECE_ROWS), position % PIECE_ROWS
        if not self.is_small:
            return int(stored[at])
        return int.from_bytes(stored[SMALL_BYTES * at : SMALL_BYTES * (at + 1)].tobytes(), "little")

    def first_kept(self, keep: NDArray[np.bool_], start: int, limit: int | None) -> NDArray[np.int64]:
        """The first `limit` rows, or all, of those to keep (rows,), in ascending order of id from position `start` on.

        Raises ValueError where the order is not what was written.
        """
        found: list[NDArray[np.int64]] = []
        left = len(keep) if limit is None else limit
        for number in range(start // PIECE_ROWS, len(self.checks)):
            if left <= 0:
                break
            piece = self._piece(number)[max(0, start - number * PIECE_ROWS) :]
            found.append(piece[keep[piece]][:left].astype(np.int64))
            left -= len(found[-1])
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def ranks(self) -> NDArray[np.uint32]:
        """(rows,): the position of each row's id among all. Raises ValueError as `row_at`."""
        ranks = np.empty(self.rows, np.uint32)
        for number in range(len(self.checks)):
            piece = self._piece(number)
            ranks[piece] = np.arange(number * PIECE_ROWS, number * PIECE_ROWS + len(piece), dtype=np.uint32)
        return ranks

    def _piece(self, number: int) -> NDArray[np.uint32]:
        stored = self._stored(number)
        if not self.is_small:
            return stored
        rows = np.zeros((len(stored) // SMALL_BYTES, 4), np.uint8)
        rows[:, :SMALL_BYTES] = stored.reshape(-1, SMALL_BYTES)
        return rows.view("<u4")[:, 0]

    def _stored(self, number: int) -> NDArray[Any]:
        size = _piece_size(self.order)
        piece = self.order[number * size : (number + 1) * size].copy()  # the file may change meanwhile
        if crc32(piece.data) != self.checks[number]:
            raise ValueError("the order of its ids does not match its checksum")
        return piece


def _small(by_id: NDArray[np.uint32]) -> NDArray[np.uint8]:
    return by_id.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :SMALL_BYTES].ravel()


def _pieces(order: NDArray[Any]) -> Iterator[NDArray[Any]]:
    size = _piece_size(order)
    return (order[start : start + size] for start in range(0, len(order), size))


def _piece_size(order: NDArray[Any]) -> int:
    return PIECE_ROWS * (SMALL_BYTES if order.dtype == np.uint8 else 1)
