"""Writing points: raw points of a caller become records in the store, and every point gets its outcome.

points.py   the use cases: write, replace codes, delete, change metadata
parse.py    raw points -> drafts and item errors, each point by itself
encode.py   drafts -> records, in threads
records.py  records that were made elsewhere
commit.py   records -> shards -> the report
fields.py   filterable fields that are added to points that there are, and that come by themselves
outcome.py  what is said of a write that failed in part
"""
