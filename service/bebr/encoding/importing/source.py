"""Whether the graph of a model is built from its weights, or comes ready-made."""

from collections.abc import Collection
from pathlib import Path

from bebr.encoding.bundles.manifest import Pooling
from bebr.encoding.importing.checkpoint import CONFIG, PRECISIONS, SUPPORTED, WEIGHTS
from bebr.encoding.importing.files.json_file import read_optional
from bebr.encoding.importing.options import ImportOptions
from bebr.encoding.importing.ready.choice import graphs_in


def is_built(folder: Path, options: ImportOptions, names: Collection[str] | None = None) -> bool:
    """Whether bebr builds the graph of a folder.

    It does where it knows the architecture, unless the options ask for a file, a precision or a pooling that only a
    ready graph has; and where there is no ready graph, so that what is missing is named. names: of the files there are,
    where not all are in the folder yet.
    """
    graphs = graphs_in(folder) if names is None else [name for name in names if name.endswith(".onnx")]
    has_weights = (folder / WEIGHTS).is_file() if names is None else WEIGHTS in names
    if not graphs and options.file is None:
        return True
    kind = read_optional(folder, CONFIG).fields.get("model_type")
    fits = options.file is None and options.precision in (None, *PRECISIONS) and options.pooling is not Pooling.GRAPH
    return has_weights and fits and kind in SUPPORTED
