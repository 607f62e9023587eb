"""The metadata store: the truth of points and documents. The only importer of sqlite3 and redis."""

from bebr.metadata.store import (
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
