"""A small bundle with both halves, whose files are no real graphs."""

from pathlib import Path

import numpy as np

from bebr.core.codes import CodeSpec
from bebr.encoding import BinarizerFiles, Bundle, EmbeddingFiles, Pooling, Precision, TextKind, write_bundle
from bebr.encoding.bundles.manifest import EmbeddingSettings, SourceHashes

SPEC = CodeSpec.parse("16x4+16x1")
BINARIZER = BinarizerFiles(b"not really a graph", SPEC, np.array([0.1, 0.7], np.float32))
SETTINGS = EmbeddingSettings(
    pooling=Pooling.MEAN,
    max_length=128,
    precision=Precision.FP32,
    source=SourceHashes("1" * 64, "2" * 64, "3" * 64),
    builder=1,
    prefixes={TextKind.QUERY: "query: ", TextKind.PASSAGE: "passage: "},
)
EMBEDDING = EmbeddingFiles(b"graph", b"{}", SETTINGS)


def write_full(folder: Path, **options: object) -> Bundle:
    return write_bundle(folder, "tiny", "1", embedding_dims=32, binarizer=BINARIZER, embedding=EMBEDDING, **options)
