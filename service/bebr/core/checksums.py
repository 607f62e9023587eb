"""Checksums that a store keeps with each point: whoever reads the point knows whether it is what was written. Pure."""

from struct import Struct
from zlib import crc32

_ONE = Struct("<I")
_PAIR = Struct("<II")
CHECKSUMS_SIZE_BYTES = _PAIR.size


def point_checksums(id: str, version: int, record: bytes, metadata: bytes) -> bytes:
    """Two, both of id and code version: one of the metadata and one of the record, which are read apart."""
    seed = crc32(id.encode(), version)
    return _PAIR.pack(crc32(metadata, seed), crc32(record, seed))


def tombstone_checksum(id: str) -> bytes:
    """What stands for the point that an id had: a point that was cut short does not look like it."""
    return _ONE.pack(crc32(b"deleted", crc32(id.encode())))


def is_metadata_sound(checksums: bytes, id: str, version: int, metadata: str) -> bool:
    """As `is_sound`, where the record was not read: what every hit of every search is asked."""
    return len(checksums) == CHECKSUMS_SIZE_BYTES and checksums[: _ONE.size] == _ONE.pack(
        crc32(metadata.encode(), crc32(id.encode(), version))
    )


def is_sound(checksums: bytes, id: str, version: int, record: bytes | None, metadata: str | None) -> bool:
    """Whether a point is what was written. None: that part was not read, and is not checked."""
    if len(checksums) != CHECKSUMS_SIZE_BYTES:
        return False
    of_metadata, of_record = _PAIR.unpack(checksums)
    seed = crc32(id.encode(), version)
    return (metadata is None or crc32(metadata.encode(), seed) == of_metadata) and (
        record is None or crc32(record, seed) == of_record
    )
