"""The store of several processes: Redis, Valkey, or a cluster of either.

store.py          RedisStore: one method for each call of the contract, and the life of a store
keys.py           what is kept under which key
points.py         commits, reads by id, the feed, and what is known of a shard
documents.py      JSON texts by kind and name
commit_calls.py   commits as calls of the script, joined where all have one outcome
values.py         the bytes of a point
news.py           commits are told to whoever follows
watch.py          whether the server still has what it acknowledged
mending.py        a shard whose feed does not agree with its points is made whole
lease.py          one process at a time writes to a prefix
members.py        several processes write to a prefix, each with a folder of its own
task_leases.py    what one process has to itself for now
announcements.py  what processes say of themselves for a while
shard_calls.py    scripts that work on one shard, and what it means when one declines
client.py         commands and scripts with deadlines
acks.py           writes that replicas have before they are acknowledged
failures.py       bebr's errors for those of Redis
breaker.py        a server that hangs makes only one call wait
reader.py         the same keys for a backup, while services write to them
lua/              the scripts: atomic on the server
"""
