"""The names of a store's keys.

<prefix>:schema                          number of this layout
<prefix>:collections                     hash uid -> number of shards; "identity" -> the store's id,
                                         "token" -> the last fencing token
<prefix>:lease                           whose the prefix is now, with a lifetime
{<prefix>:lease}:announced               hash name of a leaf -> when its time is over, and what it says of itself
{<prefix>:lease}:members                 hash id -> when its time is over, name and place of a service that shares
                                         the prefix
<prefix>:documents:<kind>                hash name -> JSON text, empty for none; FENCE -> the highest token that
                                         read or wrote any, REVISION -> how many changes there were
{<prefix>:leases}:lease:<name>           who has a lease and its token, with a lifetime
{<prefix>:leases}:tokens                 hash name of a lease -> the token that was given last
{<prefix>:<uid>:<shard>}:info            hash last_seq, points, purged_seq, the names of its epochs and where
                                         they began, the fencing token, how many commits began and ended; a
                                         shard exists while this does
{<prefix>:<uid>:<shard>}:points          hash id -> seq (6 bytes), then the checksum (4) of a tombstone, or version (4),
                                         record size (2), checksums (8), record, metadata
{<prefix>:<uid>:<shard>}:feed            stream "<seq>-0" -> id: the latest operation of each id
{<prefix>:<uid>:<shard>}:tombstones      sorted set of deleted ids by seq
{<prefix>:<uid>:<shard>}:hold            there while a backup reads the shard, at most a minute after it
{<prefix>:<uid>:<shard>}:receipt:<key>   seqs, digest and outcome of a write, with a lifetime

The braces keep a shard in one slot of a cluster, where one Lua script commits to it atomically. A stream holds a seq
and an id in little more than their bytes.
"""

from dataclasses import dataclass

PARTS = ("info", "points", "feed", "tombstones")
"""What each shard has, in the order in which scripts expect their keys."""

FENCE, REVISION = b"\0fence", b"\0revision"
"""Among the documents of a kind: no name of a document begins so."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Those of one prefix."""

    prefix: str

    @property
    def schema(self) -> str:
        return f"{self.prefix}:schema"

    @property
    def registry(self) -> str:
        return f"{self.prefix}:collections"

    @property
    def lease(self) -> str:
        return f"{self.prefix}:lease"

    @property
    def members(self) -> str:
        """In the slot of `lease`."""
        return f"{{{self.lease}}}:members"

    @property
    def announced(self) -> str:
        return f"{{{self.lease}}}:announced"

    @property
    def lease_tokens(self) -> str:
        return f"{{{self.prefix}:leases}}:tokens"

    def task_lease(self, name: str) -> str:
        return f"{{{self.prefix}:leases}}:lease:{name}"

    @property
    def news(self) -> str:
        """The channel on which commits are told."""
        return f"{self.prefix}:news"

    def documents(self, kind: str) -> str:
        return f"{self.prefix}:documents:{kind}"

    def part(self, uid: str, shard: int, part: str) -> str:
        return f"{{{self.prefix}:{uid}:{shard}}}:{part}"

    def shard(self, uid: str, shard: int) -> list[str]:
        return [self.part(uid, shard, part) for part in PARTS]
