"""Files as points: what `bebr ingest` reads. No file is held in memory.

sources      the files of one ingestion, as lines of NDJSON, and where each line came from
columns      which columns of a file are ids, texts and vectors; what is left is metadata
reader       what every kind of file has
text_files   CSV and any delimiter, lines of text
json_files   NDJSON, JSON arrays, the corpus of a BEIR folder
table_files  Parquet
vector_files .npy and .fvecs
record_files what `bebr encode` writes: Parquet of records
"""
