"""`bebr demo`: real text that is on every machine, searchable half a minute after the first start.

corpus   the docstrings of the standard library and the installed packages, read from source without importing anything
fill     put them into the collection `python-docs` over HTTP, once, going on where an interrupted fill stopped
"""
