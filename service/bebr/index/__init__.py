"""The codes of one shard in memory: growing and sealed segments, and scans over them. The only importer of the kernel.

Indexes are views of the store: everything here can be thrown away and rebuilt from it.

strings.py      sorted strings in flat arrays: ids, words
columns.py      filterable fields as arrays, and filters over them
column_merge.py  one column of the rows of several
growing.py      the segment that rows are appended to
segment.py      the sealed segment: immutable, read from a file
segment_file.py the file of a sealed segment
lists/          lists (IVF) of sealed segments, and their centroids
labels.py       the values of a field, numbered, and which rows have them
rescore_parts.py  where the rescore codes of a code version lie
rescoring.py    candidates scored again by their rescore codes
samples.py      random samples of codes, and in which lists rows are
nearest.py      the shortest way of most scans
scan.py         queries over segments: kernel calls, ties
probe.py        the same by lists: which rows are read
needs.py        what it takes to find the best hits by lists
candidates.py   what scans found, of any parts and versions, joined; and the hits that come of it
exact.py        what the best hits score when no point is passed over
slices.py       a few rows of a part
grouped.py      scans for the best rows of each value of a field
sealing.py      makes sealed segments from frozen and from sealed ones
compaction.py   which segments are worth making anew
shard_files.py  what a shard remembers on disk
view.py         what a reader sees of a shard
scan_view.py    what a search sees of all shards, as the kernel takes it
shard_parts.py  the segments of a shard, and what operations do to their rows
shard_state.py  the shard in memory: applies operations, swaps views
shard.py        the shard, with its files and their maintenance
"""

from bebr.index.candidates import Found
from bebr.index.grouped import Grouping
from bebr.index.labels import Value
from bebr.index.lists import centroid_files
from bebr.index.lists.assigning import Stopped
from bebr.index.lists.clustering import CodeSpace, cluster, lists_for, sample_rows_for
from bebr.index.nearest import EmbeddingQueries
from bebr.index.needs import Needs
from bebr.index.probe import ListsHeld, ListsRead
from bebr.index.rescoring import NotInMemory, Rescored, Rescoring
from bebr.index.samples import ListStats
from bebr.index.scan import ScanQueries
from bebr.kernel import quantize
from bebr.kernel.rescore import quantize as quantize_rescore

__all__ = [
    "CodeSpace",
    "EmbeddingQueries",
    "Found",
    "Grouping",
    "ListStats",
    "ListsHeld",
    "ListsRead",
    "Needs",
    "NotInMemory",
    "Rescored",
    "Rescoring",
    "ScanQueries",
    "Stopped",
    "Value",
    "centroid_files",
    "cluster",
    "lists_for",
    "quantize",
    "quantize_rescore",
    "sample_rows_for",
]
