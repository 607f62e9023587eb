"""Leaves, and who asks them: which there are, what each holds, and how a leaf comes to hold what it should.

announcement.py  what a leaf says of itself, as text
topology.py      StoreTopology: the leaves that there are, by what they say in the store
holding.py       Holding: a leaf takes the shards that are its own, and lets others go
"""
