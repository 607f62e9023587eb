"""The metadata store: the truth of points and documents. The only importer of sqlite3 and redis.

protocol.py    the contract, MetadataStore
sqlite/        the embedded store: files in a folder
redis/         the store of several processes: Redis, Valkey, or a cluster of either
"""

from bebr.core.operations import (
    Commit,
    CommitOutcome,
    Committed,
    DeleteWrite,
    FeedEntry,
    FeedPage,
    PutWrite,
    Receipt,
    ShardCounters,
    Write,
)
from bebr.store.protocol import (
    RESERVOIR,
    RESERVOIR_PAGE,
    DamagedDocument,
    Document,
    HeldLease,
    Member,
    MetadataStore,
    reservoir_page_name,
)

__all__ = [
    "RESERVOIR",
    "RESERVOIR_PAGE",
    "Commit",
    "CommitOutcome",
    "Committed",
    "DamagedDocument",
    "DeleteWrite",
    "Document",
    "FeedEntry",
    "FeedPage",
    "HeldLease",
    "Member",
    "MetadataStore",
    "PutWrite",
    "Receipt",
    "ShardCounters",
    "Write",
    "reservoir_page_name",
]
