"""The upgrade demo, on the docstrings of this Python: its files, its old model, and its commands in order.

The old model is created on the spot (see `encoding.importing.static_model`); the new one is that of `bebr demo`.
Everything else is done by commands that a user can type.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bebr.core.codes import CodeSpec
from bebr.demo.corpus import collect
from bebr.demo.fill import BUNDLE, MODEL
from bebr.demo.questions import judged_questions
from bebr.encoding import Bundle, BundleRegistry, TextKind, write_bundle
from bebr.encoding.encoder import Encoder
from bebr.encoding.importing.pull import known_checkpoint
from bebr.encoding.importing.static_model import read_pieces, static_files
from bebr.encoding.progress import Progress
from bebr.encoding.quantization.layout import fit_code
from bebr.encoding.quantization.recurrent_graph import files_of
from bebr.errors import BundleNotFound

COLLECTION = "python-docs-upgrade"
OLD, NEW = "static@1", "minilm@3"
TEXT_FIELD = "text"
CODE = "256x2"
QUESTION = "read settings from an ini file"


@dataclass(frozen=True)
class Files:
    """The files that the commands read and write."""

    folder: Path

    @property
    def corpus(self) -> Path:
        """Points, one per line."""
        return self.folder / "docstrings.jsonl"

    @property
    def questions(self) -> Path:
        """Queries with relevance judgments, one per line."""
        return self.folder / "questions.jsonl"

    @property
    def picture(self) -> Path:
        """The plot of the evaluation with points as queries."""
        return self.folder / "upgrade.png"

    @property
    def judged_picture(self) -> Path:
        """The plot of the evaluation with relevance judgments."""
        return self.folder / "upgrade-judged.png"


@dataclass(frozen=True)
class Step:
    """One command of the demo."""

    description: str
    """What happens, in a sentence."""
    arguments: Sequence[str]
    """The arguments of `bebr`."""


def write_files(folder: Path, points: int) -> tuple[Files, list[str]]:
    """Write up to `points` docstrings and the questions that they answer. Returns the files and the texts."""
    files, found = Files(folder), collect(points)
    folder.mkdir(parents=True, exist_ok=True)
    _write(files.corpus, (docstring.to_point() for docstring in found))
    questions = judged_questions({docstring.name for docstring in found})
    _write(files.questions, ({"text": text, "relevant": names} for text, names in questions.items()))
    return files, [docstring.text for docstring in found]


def make_old(bundles: Path, texts: Sequence[str], progress: Progress | None = None) -> Bundle:
    """The bundle of the old model, with a binarizer fitted to these texts. An existing bundle is used as it is.

    Needs the bundle of the new model, for its word pieces and its tokenizer.
    """
    registry = BundleRegistry([bundles])
    try:
        return registry.get(OLD)
    except BundleNotFound:
        pass
    transformer = registry.get(BUNDLE).read_embedding()
    assert transformer is not None
    pieces = read_pieces(known_checkpoint(MODEL))
    name, _, version = OLD.partition("@")
    model = static_files(pieces, transformer, texts)
    dims = pieces.shape[1]
    with TemporaryDirectory() as scratch:
        embedder = Encoder(write_bundle(Path(scratch), name, version, embedding_dims=dims, embedding=model))
        rows = embedder.embed(texts, TextKind.PASSAGE)
    fitted, _ = fit_code(rows, CodeSpec.parse(CODE), progress)
    return write_bundle(bundles, name, version, embedding_dims=dims, binarizer=files_of(fitted), embedding=model)


def steps(files: Files, bundles: Path, training: Sequence[str] = ()) -> list[Step]:
    """All steps of the upgrade, without the training if it was done before. training: extra arguments for it."""
    search = ["search", QUESTION, "--collection", COLLECTION, "--limit", "5"]
    evaluate = ["upgrade", "evaluate", COLLECTION, NEW]
    return [
        Step(
            "Create a collection with the old model; it keeps its texts",
            ["ingest", str(files.corpus), "-c", COLLECTION, "--bundle", OLD, "--keep-text", TEXT_FIELD],
        ),
        Step("Search with the old model", search),
        *_training(files, BundleRegistry([bundles]), training),
        Step("Attach the new model as a version; nothing uses it yet", ["upgrade", "attach", COLLECTION, NEW]),
        Step("Evaluate it, with points as queries", [*evaluate, "--plot", str(files.picture)]),
        Step(
            "Evaluate it on questions with relevance judgments",
            [*evaluate, "--queries", str(files.questions), "--plot", str(files.judged_picture)],
        ),
        Step(
            "Promote the new model: queries use it from now on, and no point is re-encoded",
            ["upgrade", "promote", COLLECTION, NEW],
        ),
        Step("Search old codes with the new model", search),
        Step("Re-encode points with the new model in the background", ["upgrade", "backfill", COLLECTION]),
        Step("Pause that; it is possible at any time", ["upgrade", "pause", COLLECTION]),
        Step("Search old and new codes together", search),
        Step("Resume it and wait until it is done", ["upgrade", "resume", COLLECTION, "--wait"]),
        Step("Search new codes with the new model", search),
        Step("Retire the old model: no point has its codes any more", ["upgrade", "retire", COLLECTION, OLD]),
    ]


def _training(files: Files, registry: BundleRegistry, more: Sequence[str]) -> list[Step]:
    """The training of an adapter from the new model to the old one, unless the new bundle has it."""
    name, _, version = NEW.partition("@")
    arguments = ["train-adapter", str(files.corpus), "--from", BUNDLE, "--to", OLD, "--name", name]
    arguments += ["--version", version, *more]
    try:
        known = {entry.fingerprint for entry in registry.get(NEW).manifest.compatible_with}
    except BundleNotFound:
        pass
    else:
        if registry.get(OLD).fingerprint in known:
            return []
        arguments.append("--replace")
    return [Step("Train an adapter, so that queries of the new model can search old codes", arguments)]


def _write(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
