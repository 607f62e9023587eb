"""The upgrade of a collection, on the docstrings of this Python: its files, its old model, and the commands in order.

The old model is made on the spot (see `encoding.static_model`), the new one is that of `bebr demo`. Everything else is
done by commands that anyone can type.
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
OLD, NEW = "static@1", "minilm@2"
TEXT_FIELD = "text"
CODE = "256x2"
QUESTION = "read settings from an ini file"


@dataclass(frozen=True)
class Files:
    """What the commands read and write. corpus: points, one a line; questions: judged queries, one a line."""

    folder: Path

    @property
    def corpus(self) -> Path:
        return self.folder / "docstrings.jsonl"

    @property
    def questions(self) -> Path:
        return self.folder / "questions.jsonl"

    @property
    def picture(self) -> Path:
        return self.folder / "upgrade.png"

    @property
    def judged_picture(self) -> Path:
        return self.folder / "upgrade-judged.png"


@dataclass(frozen=True)
class Step:
    """words: what happens, in a sentence. arguments: of the command `bebr` that does it."""

    words: str
    arguments: Sequence[str]


def write_files(folder: Path, points: int) -> tuple[Files, list[str]]:
    """Up to so many docstrings and the questions that they answer; returns the texts as well."""
    files, found = Files(folder), collect(points)
    folder.mkdir(parents=True, exist_ok=True)
    _write(files.corpus, (docstring.to_point() for docstring in found))
    questions = judged_questions({docstring.name for docstring in found})
    _write(files.questions, ({"text": text, "relevant": names} for text, names in questions.items()))
    return files, [docstring.text for docstring in found]


def make_old(bundles: Path, texts: Sequence[str], progress: Progress | None = None) -> Bundle:
    """The bundle of the old model, with a binarizer fitted to these texts; as it is where it is there already.

    The bundle of the new model must be there: its word pieces and its tokenizer are taken.
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
    """The whole upgrade; without the training where it is done already. training: more of its arguments."""
    search = ["search", QUESTION, "--collection", COLLECTION, "--limit", "5"]
    evaluate = ["upgrade", "evaluate", COLLECTION, NEW]
    return [
        Step(
            "A collection by the old model, which keeps its texts",
            ["ingest", str(files.corpus), "-c", COLLECTION, "--bundle", OLD, "--keep-text", TEXT_FIELD],
        ),
        Step("What the old model finds", search),
        *_training(files, BundleRegistry([bundles]), training),
        Step("The new model becomes a version that nothing uses yet", ["upgrade", "attach", COLLECTION, NEW]),
        Step("What would it find? Points stand in for queries", [*evaluate, "--plot", str(files.picture)]),
        Step(
            "And of what people ask for? Judged questions",
            [*evaluate, "--queries", str(files.questions), "--plot", str(files.judged_picture)],
        ),
        Step(
            "Queries go by the new model from now on; no point is encoded anew", ["upgrade", "promote", COLLECTION, NEW]
        ),
        Step("What the new model finds in old codes", search),
        Step("In the background, points get codes of the new model", ["upgrade", "backfill", COLLECTION]),
        Step("That can be held at any time", ["upgrade", "pause", COLLECTION]),
        Step("Meanwhile one search covers both kinds of codes", search),
        Step("On to the end", ["upgrade", "resume", COLLECTION, "--wait"]),
        Step("What the new model finds in its own codes", search),
        Step("No point has a code of the old model any more", ["upgrade", "retire", COLLECTION, OLD]),
    ]


def _training(files: Files, registry: BundleRegistry, more: Sequence[str]) -> list[Step]:
    """How the new model learns to reach the codes of the old one; nothing where it does."""
    name, _, version = NEW.partition("@")
    arguments = ["train-adapter", str(files.corpus), "--from", BUNDLE, "--to", OLD, "--name", name]
    arguments += ["--version", version, *more]
    try:
        reached = {entry.fingerprint for entry in registry.get(NEW).manifest.compatible_with}
    except BundleNotFound:
        pass
    else:
        if registry.get(OLD).fingerprint in reached:
            return []
        arguments.append("--replace")
    return [Step("The new model learns how its queries reach old codes", arguments)]


def _write(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
