"""Reads an ONNX file with all its weights, those in other files too. Nothing outside the model's folder is read."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx
import onnx.inliner
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from bebr.encoding.importing.ready.operators import check_operators
from bebr.encoding.onnx.session import all_nodes, all_tensors
from bebr.errors import InvalidCheckpoint

OPSETS = range(11, 27)
"""Versions of the standard operators that are understood."""


@dataclass(frozen=True)
class ReadyGraph:
    """An ONNX file that was read and checked."""

    file: str
    """Its path in the folder."""
    model: onnx.ModelProto
    """With all weights in memory, and without functions."""
    sha256: str
    """Of the file and of all files with its weights."""

    @property
    def opset(self) -> int:
        return opset_of(self.model)


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operators; 0 where none is stated."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def read_ready(folder: Path, file: str) -> ReadyGraph:
    """Read a graph. Raises InvalidCheckpoint where it is none, or has what is not allowed."""
    path = confined(folder, Path(file), file)
    digest = hashlib.sha256()
    _add_file(digest, path)
    model = _load(path, file)
    if opset_of(model) not in OPSETS:
        raise InvalidCheckpoint(
            f"{file}: operators of version {opset_of(model)} are not supported, only {OPSETS.start} .. {OPSETS[-1]}",
            file=file,
        )
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    check_operators(model, file)
    if model.graph.sparse_initializer:
        raise InvalidCheckpoint(f"{file}: sparse weights are not supported", file=file)
    for location in sorted(external_locations(model)):
        _add_file(digest, _external_path(folder, file, location))
    for tensor in all_tensors(model.graph):
        if uses_external_data(tensor):
            _load_tensor(folder, file, tensor)
    return ReadyGraph(file, model, digest.hexdigest())


def external_locations(model: onnx.ModelProto) -> set[str]:
    """The files with weights that a graph names, each relative to its own folder."""
    return {ExternalDataInfo(tensor).location for tensor in all_tensors(model.graph) if uses_external_data(tensor)}


def external_files(path: Path, file: str) -> set[str]:
    """The same of a file, as paths in the model's folder. Raises InvalidCheckpoint where one leads out of it."""
    found = set()
    for location in external_locations(_load(path, file)):
        _check_location(file, location)
        found.add(str(PurePosixPath(file).parent / location))
    return found


def confined(folder: Path, path: Path, what: str) -> Path:
    """A file of the folder, which may be a link to another file in it, or in the store of the hub's own cache.

    Raises InvalidCheckpoint where it is missing or leads out of the folder.
    """
    whole = folder / path
    roots = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":  # where the hub's cache links to its blobs
        roots.append(folder.resolve().parent.parent / "blobs")
    if path.is_absolute() or ".." in path.parts or not any(whole.resolve().is_relative_to(root) for root in roots):
        raise InvalidCheckpoint(f"{what!r} is outside the folder of the model", file=what)
    if not whole.is_file():
        raise InvalidCheckpoint(f"{folder} has no {what}", file=what)
    return whole


def _load(path: Path, file: str) -> onnx.ModelProto:
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's errors, and those of the file
        raise InvalidCheckpoint(f"{file} is not a graph that ONNX can read: {error}", file=file) from error
    if not all(isinstance(name, str) for name in _names(model)):
        raise InvalidCheckpoint(f"{file} is not a graph that ONNX can read: a name in it is not UTF-8", file=file)
    return model


def _names(model: onnx.ModelProto) -> Iterator[str | bytes]:
    """All names in a graph; those that are no text come as bytes."""
    graph = model.graph
    yield from (one.name for one in (*graph.input, *graph.output))
    yield from (tensor.name for tensor in all_tensors(graph))
    yield from (entry.domain for entry in model.opset_import)
    for node in all_nodes(graph):
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
        yield from (part for entry in node.metadata_props for part in (entry.key, entry.value))
    for tensor in all_tensors(graph):
        yield from (part for entry in tensor.external_data for part in (entry.key, entry.value))


def _check_location(file: str, location: str) -> None:
    path = PurePosixPath(location)
    if not location or path.is_absolute() or ".." in path.parts or "\\" in location:
        raise InvalidCheckpoint(f"{file} has weights in {location!r}, outside the folder of the model", file=file)


def _external_path(folder: Path, file: str, location: str) -> Path:
    _check_location(file, location)
    path = Path(file).parent / location
    return confined(folder, path, path.as_posix())


def _load_tensor(folder: Path, file: str, tensor: onnx.TensorProto) -> None:
    """Put the content of a tensor that lies in another file into it."""
    info = ExternalDataInfo(tensor)
    path = _external_path(folder, file, info.location)
    offset, size = info.offset or 0, path.stat().st_size
    length = size - offset if info.length is None else info.length
    if offset < 0 or length < 0 or offset + length > size:
        raise InvalidCheckpoint(
            f"{file}: tensor '{tensor.name}' is said to be bytes {offset} .. {offset + length} of {info.location}, "
            f"which has {size}",
            file=file,
        )
    with path.open("rb") as stored:
        stored.seek(offset)
        tensor.raw_data = stored.read(length)
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.DEFAULT


def _add_file(digest: "hashlib._Hash", path: Path) -> None:
    with path.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())


def has_operator(model: onnx.ModelProto, names: frozenset[str]) -> bool:
    """Whether a graph, or one within it, has one of these operators."""
    return any(node.op_type in names for node in all_nodes(model.graph))
