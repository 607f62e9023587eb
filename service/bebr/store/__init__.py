"""The metadata store: the truth of points and documents. The only importer of sqlite3 and redis."""

from bebr.store.protocol import (
    Committed,
    DeleteWrite,
    FeedEntry,
    MetadataStore,
    PutWrite,
    Receipt,
    ShardStats,
    Write,
)

__all__ = ["Committed", "DeleteWrite", "FeedEntry", "MetadataStore", "PutWrite", "Receipt", "ShardStats", "Write"]
