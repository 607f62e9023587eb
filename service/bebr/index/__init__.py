"""Codes in memory: segments, shards, collections. The only importer of the kernel.

Indexes are views of the metadata store: everything here can be thrown away and rebuilt from it.
"""

from bebr.index.scan import Found, ScanQueries, merge
from bebr.shards.collection_index import CollectionIndex, Views

__all__ = ["CollectionIndex", "Found", "ScanQueries", "Views", "merge"]
