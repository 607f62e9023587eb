"""Texts and vectors to embeddings.

model            texts -> embeddings, by the graph of a bundle
tokenization     texts -> token ids; the one place that sets up tokenizers
vectors          vectors from outside -> checked unit rows
files            rows of floats out of .npy, .fvecs and .parquet
"""
