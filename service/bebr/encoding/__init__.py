"""Texts and embeddings to codes: bundles, the embedding model, the binarizer.

The only importer of onnx, onnxruntime, tokenizers, safetensors, huggingface_hub, pyarrow. Knows nothing of collections.

    manifest         the fields of manifest.json and the fingerprint
    bundle           one bundle on disk: load, verify, write
    catalog          the bundles on hand
    embedding_model  texts -> embeddings
    binarizer        embeddings -> codes
    encoder          both together, and the checks on what comes in
    checkpoint       a checkpoint folder -> ONNX graph
    static_model     word-piece vectors -> an embedding model without a transformer, for the demo of an upgrade
    pull             a name, folder, package or hub repository -> bundle
    recurrent, recurrent_fit, recurrent_graph   the binarizer that is fitted: its definition, its fit, its graph
    closed_form      principal axes turned and cut into levels: where that fit starts, and the plain baseline
    choose           blocks and centring by measured recall
    embedding_files  rows of floats from .npy, .fvecs and .parquet
    int8             embeddings as codes of 8 bits a dim, until a collection has a binarizer of its own
    own_fit          embeddings of a collection -> its own binarizer
"""

from bebr.encoding.bundles.bundle import Bundle
from bebr.encoding.bundles.contents import AdapterFiles, BinarizerFiles, CompatibilityFiles, EmbeddingFiles
from bebr.encoding.bundles.manifest import AdapterEntry, AdapterKind, Gain, Pooling, Precision, TextKind
from bebr.encoding.bundles.registry import BundleRegistry, shipped_bundles
from bebr.encoding.bundles.writer import write_bundle

__all__ = [
    "AdapterEntry",
    "AdapterFiles",
    "AdapterKind",
    "BinarizerFiles",
    "Bundle",
    "BundleRegistry",
    "CompatibilityFiles",
    "EmbeddingFiles",
    "Gain",
    "Pooling",
    "Precision",
    "TextKind",
    "shipped_bundles",
    "write_bundle",
]
