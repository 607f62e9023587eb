"""The bytes of a point in Redis, and the arguments of a commit. Pure.

A stored value: seq (6 bytes), code version (4), record size (2), all big-endian, then record and metadata. A tombstone
is the seq alone. The server puts the seq in front, the rest is packed here.
"""

from struct import Struct

from bebr.core.operations import DeleteWrite, FeedEntry, Write
from bebr.core.types import Puts
from bebr.errors import DamagedStore

_SEQ = Struct(">HI")
_HEAD = Struct(">HIIH")
_REST_OF_HEAD = Struct(">IH")


def write_arguments(write: Write, receipt_place: int) -> list[str | bytes | int]:
    """What `commit.lua` reads of one write."""
    digest = write.receipt.digest if write.receipt else b""
    if isinstance(write, DeleteWrite):
        return ["delete", receipt_place, digest, len(write.ids), *write.ids]
    return [write.mode.value, receipt_place, digest, len(write.ids), *write.ids, *pack_values(write.puts)]


def pack_values(puts: Puts) -> list[bytes]:
    """Stored values without their seq."""
    size = puts.records.shape[1]
    head = _REST_OF_HEAD.pack(puts.version, size)
    records = puts.records.tobytes()
    return [
        b"".join((head, records[start : start + size], metadata.encode()))
        for start, metadata in zip(range(0, len(records), size), puts.metadata, strict=True)
    ]


def unpack_value(id: str, value: bytes) -> FeedEntry:
    """A stored value as feed entry. Raises DamagedStore when it is none."""
    if len(value) == _SEQ.size:
        high, low = _SEQ.unpack(value)
        return FeedEntry(high << 32 | low, id, 0, None, None)
    if len(value) >= _HEAD.size:
        high, low, version, size = _HEAD.unpack_from(value)
        stop = _HEAD.size + size
        if len(value) >= stop:
            return FeedEntry(high << 32 | low, id, version, value[_HEAD.size : stop], _text(id, value[stop:]))
    raise DamagedStore(f"Redis holds {len(value)} bytes for point {id!r:.80} that bebr did not write", id=id)


def _text(id: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DamagedStore(f"Redis holds metadata for point {id!r:.80} that is not UTF-8", id=id) from error
