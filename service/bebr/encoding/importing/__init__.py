"""Models of other projects become the embedding models of bundles. No torch.

pull             a known model, folder, file, package or hub repository -> a bundle
hub              fetches a model
source           whether a graph is built from the weights, or comes ready-made
options          what an import is asked for, and what it gives
checkpoint       a checkpoint folder -> graph, tokenizer, settings
architecture     the weights of BERT-like encoders under one set of names; modern: those of ModernBERT
transformer      the ONNX graph of such an encoder, and head: pooling and unit length, of every graph
builder          collects the nodes of a graph
files/           the files of a model, read strictly
ready/           a ready ONNX graph -> graph, tokenizer, settings
static_model     word-piece vectors -> an embedding model without a transformer
"""
