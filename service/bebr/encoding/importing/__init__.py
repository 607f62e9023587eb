"""Checkpoints of other projects become the embedding models of bundles. No torch.

pull             a known model, folder, package or hub repository -> a bundle
hub              fetches a checkpoint
checkpoint       a checkpoint folder -> graph, tokenizer, settings
architecture     the weights of BERT-like encoders under one set of names
transformer      the ONNX graph of such an encoder
static_model     word-piece vectors -> an embedding model without a transformer
"""
