"""`bebr train-adapter`: texts or aligned arrays become a bundle with adapters; what does not fit is named."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.two_models import text_bundle, texts
from tests.training.two_spaces import OLD_SPEC, SPEC, two_spaces, vector_bundle
from typer.testing import CliRunner

from bebr.cli.app import app
from bebr.encoding import Bundle, TextKind, write_bundle
from bebr.encoding.adapters.adapter import open_adapters
from bebr.encoding.encoder import Encoder
from bebr.errors import BebrError

ROWS, OLD_ROWS = two_spaces(900)
QUICK = ["--preset", "quick", "--steps", "3", "--threads", "1"]


def run(*arguments: str, command: str = "train-adapter") -> str:
    """Raises what the command raises."""
    result = CliRunner().invoke(app, [command, *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def answer(*arguments: str) -> Any:
    return json.loads(run(*arguments, *QUICK, "--json"))


@dataclass(frozen=True)
class Arrays:
    """Aligned files and bundles of vectors, in a folder of their own."""

    folder: Path
    new: str
    old: str
    data: str
    old_data: str

    @property
    def aligned(self) -> list[str]:
        return [self.data, "--from", self.new, "--to", self.old, "--to-embeddings", self.old_data]


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    folder = tmp_path_factory.mktemp("arrays")
    new, old = vector_bundle(folder, "new@2", ROWS, SPEC), vector_bundle(folder, "old@1", OLD_ROWS, OLD_SPEC)
    return Arrays(
        folder, str(new.path), str(old.path), saved(folder, "rows", ROWS), saved(folder, "old_rows", OLD_ROWS)
    )


def saved(folder: Path, name: str, rows: np.ndarray) -> str:
    np.save(folder / f"{name}.npy", rows)
    return str(folder / f"{name}.npy")


def test_the_binarizer_of_the_base_is_kept(arrays: Arrays, tmp_path: Path) -> None:
    made = answer(*arrays.aligned, "--out", str(tmp_path))
    base, written = Bundle.load(Path(arrays.new)), Bundle.load(tmp_path / "new@2", verify=True)
    assert written.fingerprint == base.fingerprint == made["bundle"]["fingerprint"]
    assert made["bundle"]["compatible_with"] == ["old@1"]
    (entry,) = written.manifest.compatible_with
    assert entry.figures == made["adapters"]["old@1"] and entry.figures["rows"] == 900
    assert entry.forward.default in ("linear", "compatible"), "arrays have no text for the other kinds"
    open_adapters(written, entry)
    assert "## Compatible with old@1" in (written.path / "card.md").read_text()


def test_further_bundles_are_added_and_made_anew(arrays: Arrays, tmp_path: Path) -> None:
    older = vector_bundle(tmp_path, "older@1", OLD_ROWS[::-1].copy(), OLD_SPEC)
    first = answer(*arrays.aligned, "--out", str(tmp_path))
    chain = ["--to", str(older.path), "--to-embeddings", arrays.old_data]
    options = ["--from", first["path"], "--out", str(tmp_path), "--replace", "--seed", "1"]
    old = ["--to", arrays.old, "--to-embeddings", arrays.old_data]
    second = answer(arrays.data, *chain, *options)
    assert second["bundle"]["compatible_with"] == ["old@1", "older@1"]
    both = answer(arrays.data, *chain, *old, *options)
    assert both["bundle"]["compatible_with"] == ["older@1", "old@1"]
    card = (Path(both["path"]) / "card.md").read_text()
    assert card.count("## Compatible with old@1") == card.count("## Compatible with older@1") == 1


def test_a_trained_binarizer_gets_adapters(arrays: Arrays, tmp_path: Path) -> None:
    trained = json.loads(run(arrays.data, "--code", "32x2", "--out", str(tmp_path), *QUICK, "--json", command="train"))
    options = ["--to", arrays.old, "--to-embeddings", arrays.old_data, "--out", str(tmp_path), "--replace"]
    made = answer(arrays.data, "--from", trained["path"], *options)
    written = Bundle.load(Path(made["path"]), verify=True)
    assert (written.id, str(written.spec)) == ("rows@1", "32x2") and trained["training"]["rows"] == 900
    assert written.figures["training"] == trained["training"]
    assert (written.path / "recall.png").is_file()
    (entry,) = written.manifest.compatible_with
    open_adapters(written, entry)
    card = (written.path / "card.md").read_text()
    assert card.index("recall@10 against bytes") < card.index("## Compatible with old@1")


def test_judged_pairs_choose_the_adapter(arrays: Arrays, tmp_path: Path) -> None:
    folder = judged_folder(tmp_path / "judged")
    pairs = ["--pairs", str(folder), "--model", "new", "--to-model", "old", "--out", str(tmp_path)]
    figures = answer(*arrays.aligned, *pairs)["adapters"]["old@1"]["forward"]
    assert figures["judged"]["judged"] and figures["judged"]["adapter"] == figures["default"]
    assert figures["default"] in ("linear", "compatible")


def judged_folder(folder: Path) -> Path:
    """Int8 embeddings of both models, as a folder with several has them."""
    folder.mkdir()
    for side, count, seed in (("docs", 300, 1), ("queries", 40, 2)):
        for model, rows in zip(("new", "old"), two_spaces(count, seed), strict=True):
            scale = np.abs(rows).max(axis=1) / 127
            np.save(folder / f"{side}.{model}.i8.npy", np.rint(rows / scale[:, None]).astype(np.int8))
            np.save(folder / f"{side}.{model}.scale.npy", scale.astype(np.float32))
    nearest = (two_spaces(40, 2)[0] @ two_spaces(300, 1)[0].T).argmax(axis=1)
    lines = [f"{query}\t{row}\t1" for query, row in enumerate(nearest)]
    (folder / "qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n")
    return folder


def test_texts_are_embedded_by_both_models(tmp_path: Path) -> None:
    new, old = text_bundle(tmp_path, "new@2", seed=1), text_bundle(tmp_path, "old@1", seed=2)
    data = text_file(tmp_path / "texts.jsonl", [*texts(300), *texts(10)])
    folder = tmp_path / "judged"
    folder.mkdir()
    asked = [text.rpartition(" ")[0] for text in texts(40)]
    text_file(folder / "corpus.jsonl", texts(200))
    text_file(folder / "queries.jsonl", asked)
    lines = [f"{row}\t{row}\t1" for row in range(40)]
    (folder / "qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n")
    options = ["--from", str(new.path), "--to", str(old.path), "--out", str(tmp_path), "--replace"]
    unjudged = answer(data, *options)["adapters"]["old@1"]
    assert unjudged["rows"] == 300 and unjudged["forward"]["default"] == "weighted"
    judged = answer(data, *options, "--pairs", str(folder))["adapters"]["old@1"]
    assert judged["forward"]["judged"]["queries"] == 40
    shown = run(data, *options, "--pairs", str(folder), *QUICK)
    assert "old@1: queries of the new model on its codes" in shown and "nDCG gain" in shown and "Backward," in shown


def text_file(path: Path, given: list[str]) -> str:
    path.write_text("".join(json.dumps({"_id": str(row), "text": text}) + "\n" for row, text in enumerate(given)))
    return str(path)


@pytest.fixture(scope="module")
def texts_only(arrays: Arrays) -> str:
    """A bundle with an embedding model and without a binarizer."""
    model = text_bundle(arrays.folder, "both@1", seed=3).read_embedding()
    return str(write_bundle(arrays.folder, "texts", "1", embedding_dims=32, embedding=model).path)


@pytest.fixture(scope="module")
def published(arrays: Arrays) -> str:
    """A bundle of BEBR's own recipe, whose codes represent no embedding."""
    options = ["--code", "32x2", "--preset", "published", "--steps", "1", "--name", "published"]
    trained = run(arrays.data, *options, "--out", str(arrays.folder), "--json", command="train")
    return str(json.loads(trained)["path"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{data} --from {new} --to {old}", "with --to-embeddings"),
        ("{data} --from {new} --to {old} --to-embeddings {short}", "800 rows, the data 900"),
        ("{data} --from {new} --to {old} --to-embeddings {data}", "rows of 64 dims"),
        ("{old_data} --from {new} --to {old} --to-embeddings {old_data}", "the rows have 48"),
        ("{few} --from {new} --to {old} --to-embeddings {few_old}", "60 rows are too few"),
        ("{aligned} --to-embeddings {old_data}", "once for each --to, got 2 values for 1 bundles"),
        ("{aligned} --to-model old", "--to-model selects embeddings of --pairs"),
        ("{aligned} --model new", "--model selects embeddings of --pairs"),
        ("{aligned} --pairs {judged}", "with --to-model"),
        ("{aligned} --to {old} --to-embeddings {old_data}", "or the same model, twice"),
        ("{data} --from {new} --to {new} --to-embeddings {data}", "are one model and need no adapter"),
        ("{data} --from {new} --to {texts} --to-embeddings {old_data}", "'texts@1' has no binarizer"),
        ("{data} --from {texts} --to {old} --to-embeddings {old_data}", "has no binarizer: make one with bebr fit"),
        ("{aligned} --preset published", "expected distil, quick or contrastive"),
        ("{aligned} --preset best", "expected one of distil"),
        ("{data} --from {published} --to {old} --to-embeddings {old_data}", "represent no embedding"),
        ("{lines} --from {texts} --to {old}", "'old@1' has no embedding model"),
        ("{lines} --from {new} --to {old} --to-embeddings {old_data}", "'new@2' has no embedding model"),
        ("{data} --from {new} --to nowhere@1", "nowhere@1"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_written(
    arguments: str, message: str, arrays: Arrays, texts_only: str, published: str, tmp_path: Path
) -> None:
    folder = arrays.folder
    names = {
        "new": arrays.new,
        "old": arrays.old,
        "data": arrays.data,
        "old_data": arrays.old_data,
        "aligned": " ".join(arrays.aligned),
        "texts": texts_only,
        "published": published,
        "short": saved(folder, "short", OLD_ROWS[:800]),
        "few": saved(folder, "few", ROWS[:60]),
        "few_old": saved(folder, "few_old", OLD_ROWS[:60]),
        "judged": str(folder / "judged" if (folder / "judged").is_dir() else judged_folder(folder / "judged")),
        "lines": text_file(folder / "lines.jsonl", texts(200)),
    }
    with pytest.raises(BebrError, match=message):
        run(*QUICK, *arguments.format(**names).split(), "--out", str(tmp_path / "b"))
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("arguments", ["{data} --to {old}", "{data} --from {new}"])
def test_both_sides_must_be_named(arguments: str, arrays: Arrays) -> None:
    given = arguments.format(data=arrays.data, old=arrays.old, new=arrays.new).split()
    assert CliRunner().invoke(app, ["train-adapter", *given]).exit_code == 2


def test_adapters_of_the_base_are_not_carried_over_silently(tmp_path: Path) -> None:
    old = text_bundle(tmp_path, "old@1", seed=2)
    base = text_bundle(tmp_path, "new@2", seed=1, old=old)
    rows = Encoder(base).embed(texts(400), TextKind.PASSAGE)
    data = saved(tmp_path, "data", rows)
    options = ["--base", str(base.path), "--code", "16x2", "--out", str(tmp_path), *QUICK]
    result = CliRunner().invoke(app, ["train", data, *options], catch_exceptions=False)
    assert "the adapter of 'new@2' to 'old@1' is not carried over" in result.stderr
    assert not Bundle.load(tmp_path / "data@1").manifest.compatible_with
