"""Codes in memory: segments, shards, collections. The only importer of the kernel.

Indexes are views of the metadata store: everything here can be thrown away and rebuilt from it.
"""

from bebr.index.collection import CollectionIndex, Views
from bebr.index.scan import Found, ScanQueries, merge

__all__ = ["CollectionIndex", "Found", "ScanQueries", "Views", "merge"]
