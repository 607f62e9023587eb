"""The embedded store: SQLite files in a folder.

store.py        SqliteStore: one method for each call of the contract
open_catalog.py which collections there are: made, dropped, or followed where another process writes
open_files.py   which collection files are open, and what keeps their users apart
collection.py   one collection file: its connections and transactions
write_plan.py   what a group of commits will do, decided before the file is touched
statements.py   the SQL of a collection file
reading.py      points and the feed, checked against their checksums
point_cache.py  points that were read of late
reader.py       the same folder for a backup, while another process writes to it
documents.py    the catalog file: documents, and which collections exist; also where another process writes it
catalog_copy.py its copy, which takes its place when it is damaged
task_leases.py  what one process has to itself for now
threads.py      where calls that block run
files.py        how files are opened, checked and locked, and what SQLite's errors mean
"""
