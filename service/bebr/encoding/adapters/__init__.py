"""From queries of one embedding model to codes of another, and what an upgrade by that would find.

adapter          the four kinds of adapter, and how scores of two models get one scale
evaluation       old and new queries against old and new codes of the same points
quality          nDCG, recall and their gains, summarized
"""
