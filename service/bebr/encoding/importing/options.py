"""What an import is asked for, and what it gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bebr.encoding.bundles.contents import EmbeddingFiles
from bebr.encoding.bundles.manifest import Pooling, Precision, TextKind


@dataclass(frozen=True)
class ImportOptions:
    """What to do differently from what the model's files say."""

    precision: Precision | None = None
    """None: fp32, or what there is."""
    pooling: Pooling | None = None
    """None: as the files say."""
    max_length: int | None = None
    """Tokens that are kept of a text. None: as the files say."""
    prefixes: Mapping[TextKind, str] = field(default_factory=dict)
    """Those that are missing are as the files say."""
    dims: int | None = None
    """Only the first so many numbers of an embedding are kept. None: as the files say, else all."""
    layers: int | None = None
    """Only the first so many layers are computed. None: all."""
    file: str | None = None
    """A ready ONNX graph, as its path in the folder. None: the weights, where bebr builds a graph of them; else the
    graph of the precision."""


@dataclass(frozen=True)
class ImportedModel:
    """An embedding model that was built from a checkpoint, or from a ready graph."""

    files: EmbeddingFiles
    dims: int
    """Dims of its embeddings."""
    notes: tuple[str, ...] = ()
    """What people should know of it, one sentence each."""
