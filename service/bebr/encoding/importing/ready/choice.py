"""Which of the ONNX files of a folder is meant, by the names that optimum and others give them."""

from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from bebr.encoding.bundles.manifest import Precision
from bebr.encoding.importing.options import ImportOptions
from bebr.errors import InvalidCheckpoint, InvalidOption

FOLDERS = ("onnx", "")
"""Where graphs lie, in the order in which they are looked for."""
STEMS = ("text_model", "model")
"""How graphs of embedding models are called; the first is the text tower of a model of texts and images."""
SUFFIXES = {
    Precision.FP32: ("",),
    Precision.FP16: ("_fp16",),
    Precision.INT8: ("_quantized", "_int8", "_qint8_avx512_vnni", "_qint8_avx512", "_qint8_arm64"),
    Precision.UINT8: ("_uint8", "_quint8_avx2"),
    Precision.Q4: ("_q4",),
    Precision.Q4F16: ("_q4f16",),
}
PATTERNS = ("*.onnx", "onnx/*.onnx")


def graphs_in(folder: Path) -> list[str]:
    """The ONNX files of a folder, as paths in it."""
    return sorted(path.relative_to(folder).as_posix() for pattern in PATTERNS for path in folder.glob(pattern))


def choose_graph(names: Collection[str], options: ImportOptions) -> str:
    """The ONNX file that the options mean, of those that are there.

    Raises InvalidCheckpoint where there is none, InvalidOption where the one that was asked for is not there, or there
    are several and none of them has the usual name.
    """
    graphs = sorted(name for name in names if name.endswith(".onnx"))
    if options.file is not None:
        return _named(options.file, graphs)
    if not graphs:
        raise InvalidCheckpoint("there is no ONNX file here, and none in a folder onnx", file="model.onnx")
    wanted = options.precision or Precision.FP32
    usual = [
        str(PurePosixPath(folder, stem + suffix + ".onnx"))
        for suffix in SUFFIXES[wanted]
        for folder in FOLDERS
        for stem in STEMS
    ]
    for name in usual:
        if name in graphs:
            return name
    if options.precision is None and len(graphs) == 1:
        return graphs[0]
    raise InvalidOption(
        f"no ONNX file has a usual name for precision {wanted}, such as {usual[0]}; there are {', '.join(graphs)}. "
        "Name one with --file",
        option="file",
    )


def _named(file: str, graphs: Sequence[str]) -> str:
    name = str(PurePosixPath(file))
    if name not in graphs:
        raise InvalidOption(
            f"there is no ONNX file {file!r} in the model's folder; there are {', '.join(graphs) or 'none'}",
            option="file",
        )
    return name
