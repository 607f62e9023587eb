"""The shards of a collection behind one client: searched, written, and kept equal to the store.

client.py    the contract, ShardClient, and what a shard says of itself
searched.py  what a search found, and what it covered
local.py     LocalShards, the client of shards in this process
held.py      HeldShards, the same where some shards are here, others at times
topology.py  which leaves there are, and what each holds
placement.py which leaves are to hold which shards
wire/        calls between gateways and leaves, over connections
truth.py     what the shards need of the store
shared_seqs.py  numbers in a mapped file by which processes tell each other what they have acknowledged
freshness.py what others have acknowledged, and how a view gets there
writer.py    the order of the writes, and what is committed together
rewrites.py  changes that read points first
group.py     what waits to be written, and what goes into one commit
changes.py   what a shard can be asked to write
runs.py      what a follower applies at once
replay.py    the feed of a shard, applied to its view
losses.py    whether the store still has what it acknowledged
note.py      what the store acknowledged last, noted beside a shard's files
follower.py  keeps one shard equal to the store
files_follower.py  the same where another process writes its files
columns.py   makes columns of fields that were added to rows that there are
reader.py    where reads run, and what they do where a file is damaged
reads.py     searches, counts and lists of ids over several shards
snapshot.py  the shards as they were at one moment
scan_rate.py how long a scan takes on this machine
memory.py    gives memory back to the system
"""

from bebr.index import (
    CodeSpace,
    EmbeddingQueries,
    Found,
    Grouping,
    ListsHeld,
    ListsRead,
    Needs,
    NotInMemory,
    Rescored,
    Rescoring,
    ScanQueries,
    Stopped,
    Value,
    centroid_files,
    cluster,
    lists_for,
    quantize,
    quantize_rescore,
    sample_rows_for,
)
from bebr.shards.changes import Change, Patch, Reencode, Replace, ShardWrite, pieces_of, values_of
from bebr.shards.client import ColumnStats, Misfits, ShardClient, ShardStats
from bebr.shards.held import HeldShards, NotHeld
from bebr.shards.local import LocalShards
from bebr.shards.note import acknowledged, forget_notes
from bebr.shards.reader import ShardThreads
from bebr.shards.searched import Searched
from bebr.shards.shared_seqs import SharedSeqs, numbers
from bebr.shards.snapshot import Snapshot

__all__ = [
    "Change",
    "CodeSpace",
    "ColumnStats",
    "EmbeddingQueries",
    "Found",
    "Grouping",
    "HeldShards",
    "ListsHeld",
    "ListsRead",
    "LocalShards",
    "Misfits",
    "Needs",
    "NotHeld",
    "NotInMemory",
    "Patch",
    "Reencode",
    "Replace",
    "Rescored",
    "Rescoring",
    "ScanQueries",
    "Searched",
    "ShardClient",
    "ShardStats",
    "ShardThreads",
    "ShardWrite",
    "SharedSeqs",
    "Snapshot",
    "Stopped",
    "Value",
    "acknowledged",
    "centroid_files",
    "cluster",
    "forget_notes",
    "lists_for",
    "numbers",
    "pieces_of",
    "quantize",
    "quantize_rescore",
    "sample_rows_for",
    "values_of",
]
