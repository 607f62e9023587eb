"""The store of several processes: Redis, Valkey, or a cluster of either.

store.py          RedisStore: keys, and one method for each call of the contract
commit_calls.py   commits as calls of the script, joined where all have one outcome
values.py         the bytes of a point
watch.py          whether the server still has what it acknowledged
lease.py          one process at a time writes to a prefix
client.py         commands and scripts with deadlines, and bebr's errors for Redis's
reader.py        the same keys for a backup, while services write to them
breaker.py       a server that hangs makes only one call wait
lua/              the scripts: atomic on the server
"""
