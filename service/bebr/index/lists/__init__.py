"""Lists (IVF) of sealed segments: which row is in which list, and where the centroids come from.

segment_lists.py  the lists of one segment, and its rows in the order of ids
assigning.py      which list a row belongs to
clustering.py     centroids of a sample of codes
centroid_files.py centroids as bytes and as files
"""
