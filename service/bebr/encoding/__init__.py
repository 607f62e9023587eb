"""Texts and embeddings to codes. Knows nothing of collections.

The only importer of onnx, onnxruntime, tokenizers, safetensors, huggingface_hub, pyarrow.

    encoder          the face: the embedding model and the binarizer of one bundle, behind one border
    bundles/         models on disk: manifest, files, fingerprint, and which there are
    importing/       checkpoints of other projects -> embedding models of bundles
    embedding/       texts and vectors -> embeddings
    quantization/    embeddings -> codes: binarizers, how they are fitted and exported
    adapters/        queries of one embedding model -> codes of another, and what that finds
    onnx/            ONNX graphs, written and opened
    progress         how long work tells how far it is

The nouns of bundles are exported here; everything else is imported from its own module.
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
