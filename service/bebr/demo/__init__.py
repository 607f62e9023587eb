"""The data and steps of `bebr demo`: real text that exists on every machine.

corpus      the docstrings of the standard library and the installed packages, read from source, nothing imported
fill        writes them to the collection `python-docs` over HTTP, once; an interrupted fill is resumed
questions   questions about them, with relevance judgments
upgrade     files, old model and commands of `bebr demo --upgrade`
"""
