"""What browsers are shown: the search page at / and the API page at /docs.

assets/    the pages' own files, served as they are: no build step, and nothing comes from another address
assets.py  reads them
docs.py    the OpenAPI document as HTML
"""
