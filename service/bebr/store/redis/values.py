"""The bytes of a point in Redis, and the arguments of a commit. Pure.

A stored value: seq (6 bytes), code version (4), record size (2), all big-endian, checksums (8), record and metadata.
The highest bit of the version says that there are checksums: older releases wrote none. A tombstone is the seq and a
checksum (4); the seq alone in older releases. The server puts the seq in front, the rest is packed here.
"""

from struct import Struct
from struct import error as StructError

from bebr.core.checksums import CHECKSUMS_SIZE_BYTES, is_sound, point_checksums, tombstone_checksum
from bebr.core.operations import DeleteWrite, FeedEntry, Write
from bebr.core.types import Puts

_SEQ = Struct(">HI")
_HEAD = Struct(">HIIH")
_REST_OF_HEAD = Struct(">IH")
_WITH_CHECKSUMS = 1 << 31


def write_arguments(write: Write, receipt_place: int) -> list[str | bytes | int]:
    """What `commit.lua` reads of one write."""
    digest, seqs = write.receipt.digest if write.receipt else b"", write.if_seqs or ()
    mode = "delete" if isinstance(write, DeleteWrite) else write.mode.value
    values = map(tombstone_checksum, write.ids) if isinstance(write, DeleteWrite) else pack_values(write.puts)
    return [mode, receipt_place, digest, len(write.ids), len(seqs), *write.ids, *values, *seqs]


def pack_values(puts: Puts) -> list[bytes]:
    """Stored values without their seq."""
    size = puts.records.shape[1]
    head = _REST_OF_HEAD.pack(puts.version | _WITH_CHECKSUMS, size)
    records = puts.records.tobytes()
    values = []
    for id, start, metadata in zip(puts.ids, range(0, len(records), size), puts.metadata, strict=True):
        record, text = records[start : start + size], metadata.encode()
        values.append(b"".join((head, point_checksums(id, puts.version, record, text), record, text)))
    return values


def unpack_value(id: str, value: bytes) -> FeedEntry:
    """A stored value as feed entry, marked where it is not what was written."""
    if is_bare_tombstone(value) or value[_SEQ.size :] == tombstone_checksum(id):
        return FeedEntry(_seq(value), id, 0, None, None)
    try:
        high, low, version, size = _HEAD.unpack_from(value)
        start, checksums = _HEAD.size, None
        if version & _WITH_CHECKSUMS:
            start, checksums = start + CHECKSUMS_SIZE_BYTES, value[start : start + CHECKSUMS_SIZE_BYTES]
            version &= ~_WITH_CHECKSUMS
        record, text = value[start : start + size], value[start + size :].decode()
    except (StructError, UnicodeDecodeError):
        return FeedEntry(_seq(value), id, 0, None, None, True)
    is_damaged = len(record) != size or not (checksums is None or is_sound(checksums, id, version, record, text))
    return FeedEntry(high << 32 | low, id, *((0, None, None, True) if is_damaged else (version, record, text)))


def is_bare_tombstone(value: bytes) -> bool:
    """Whether it is a tombstone of an older release, or what is left of something else: only the set of tombstones
    tells."""
    return len(value) == _SEQ.size


def seq_of(value: bytes) -> int | None:
    """None where nothing is left of it."""
    return _seq(value) if len(value) >= _SEQ.size else None


def _seq(value: bytes) -> int:
    return int.from_bytes(value[: _SEQ.size])
