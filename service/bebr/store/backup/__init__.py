"""A whole store in one file, from which a store of any kind can be filled: points as records, and documents.

archive.py   the file: a tar of members, and the manifest that names them all with their SHA-256
samples.py   embeddings that collections keep of some points
make.py      a store that may be written to meanwhile -> the file
restore.py   the file, checked whole -> an empty store
"""
