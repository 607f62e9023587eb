"""The codes of one shard in memory: growing and sealed segments, and scans over them. The only importer of the kernel.

Indexes are views of the store: everything here can be thrown away and rebuilt from it.
"""

from bebr.index.scan import Found, ScanQueries, merge

__all__ = ["Found", "ScanQueries", "merge"]
