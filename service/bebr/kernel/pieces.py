"""Mapped bytes in pieces with a checksum each, checked before their first use, so that opening a file reads nothing."""

import numpy as np
from numpy.typing import NDArray

from bebr.kernel import _kernel
from bebr.kernel.checks import check

DamagedRows = _kernel.DamagedRows
"""Rows of a mapped file that were to be scanned are not what was written."""


class Pieces:
    """Bytes (size,) uint8 of a mapped file; checksums (ceil(size / piece_size),) uint32: the crc32 of each piece."""

    def __init__(self, data: NDArray[np.uint8], piece_size: int, checksums: NDArray[np.uint32]) -> None:
        check(data, np.uint8, "data")
        if piece_size < 1:
            raise ValueError(f"piece_size must be at least 1, got {piece_size}")
        check(checksums, np.uint32, "checksums", -(-len(data) // piece_size))
        self.native = _kernel.Pieces(data, piece_size, checksums)

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self.native.size

    @property
    def is_checked(self) -> bool:
        """Whether every byte was checked."""
        return self.native.is_checked

    def check(self, begin: int, end: int) -> bool:
        """Whether the bytes begin .. end are what was written; those that were checked before are not read again."""
        return self.native.check(begin, end)

    def check_all(self) -> bool:
        """Whether all bytes are what was written."""
        return self.native.check_all()

    def advise(self, begin: int, end: int) -> None:
        """Ask the system to read the bytes begin .. end from the disk, without waiting for them."""
        self.native.advise(begin, end)

    def forget(self) -> None:
        """The bytes may have changed: all of them are checked anew before they are used."""
        self.native.forget()


def lost_pages() -> int:
    """How many pages of mapped files were found missing so far, and read as zeros from then on."""
    return _kernel.lost_pages()
