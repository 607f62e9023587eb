"""`bebr train`: trains a binarizer on embeddings or texts, and on relevance judgments, and writes it as a bundle."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bebr.cli.models.options import (
    Bytes,
    Code,
    Data,
    FittedName,
    FittedVersion,
    Nested,
    Out,
    Pairs,
    Replace,
    Seed,
    Steps,
    TargetRecall,
    Threads,
)
from bebr.cli.models.registry import bundles_folder, check_embedding_model, check_folder_is_used, find_bundle, name_of
from bebr.cli.models.target import Size, Target
from bebr.cli.models.training_data import TrainingData, recipe_of, use_threads
from bebr.cli.options import AsJson, ConfigFile, DataDir

if TYPE_CHECKING:
    from bebr.encoding import Bundle
    from bebr_training.binarizer.presets import Preset
    from bebr_training.binarizer.train import Trained
    from bebr_training.data.held_out import HeldOut

Base = Annotated[
    str | None, typer.Option(help="Bundle whose embedding model is used and taken over; the new bundle takes texts.")
]
PresetName = Annotated[str, typer.Option("--preset", help="distil, quick, contrastive, or published: BEBR's recipe.")]
Model = Annotated[str | None, typer.Option(help="Which embeddings of --pairs to read, where there are several.")]
Checkpoint = Annotated[
    Path | None, typer.Option(help="Save progress to this file, and resume from it if it exists.", dir_okay=False)
]


def train(
    context: typer.Context,
    data: Data,
    bytes: Bytes = None,
    code: Code = None,
    target_recall: TargetRecall = None,
    nested: Nested = False,
    preset: PresetName = "distil",
    steps: Steps = None,
    pairs: Pairs = None,
    model: Model = None,
    base: Base = None,
    checkpoint: Checkpoint = None,
    seed: Seed = 0,
    threads: Threads = 0,
    name: FittedName = None,
    version: FittedVersion = "1",
    out: Out = None,
    replace: Replace = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Train a binarizer and write it as a bundle, with a model card and a picture.

    Training starts from what `bebr fit` makes, learns to rank as the floats do, and keeps the best step on held-out
    rows, so the bundle is never worse than its start. With --pairs the query side learns from relevance judgments as
    well; codes may then find more than the floats. Needs the extra [train].
    """
    from bebr.cli.output import counted_progress

    size = Size(bytes, code, target_recall, nested)
    check_folder_is_used(context, out is None, base)
    embedding = find_bundle(base, data_dir, config) if base is not None else None
    folder = out or bundles_folder(data_dir, config)
    run = _Run(size, preset, checkpoint, Target(folder, name or name_of(data), version, replace, embedding))
    run.target.check_free(size)
    recipe = recipe_of(preset, steps, seed)
    with counted_progress("reading") as show:
        written = run.train(recipe, TrainingData(data, embedding, pairs, model, threads, show))
    written.print(as_json)


@dataclass(frozen=True)
class _Run:
    """What a run of `bebr train` makes."""

    size: Size
    preset: str
    """Name of the preset, for the metrics of the bundle."""
    checkpoint: Path | None
    target: Target

    def train(self, recipe: "Preset", data: TrainingData) -> "_Written":
        """Read, fit the start, train, check the exported graph, then write the bundle and its card."""
        from bebr_training.binarizer.train import train as run
        from bebr_training.data.held_out import HeldOut

        self._check(recipe)
        use_threads(data.threads)
        read = data.rows()
        judged, held_out = data.judged(read), HeldOut(read.rows, recipe.seed)
        start = self.size.fit(held_out.training, data.show)[0]
        trained = run(held_out, start, recipe, pairs=judged, checkpoint=self.checkpoint, progress=data.show)
        metrics = {"training": trained.to_json() | {"rows": len(read.rows), "preset": self.preset, "seed": recipe.seed}}
        notes = (*read.notes, *self._notes())
        bundles, card = self._write(trained, held_out, metrics, notes, data)
        return _Written(bundles, trained, card, metrics, notes)

    def _check(self, recipe: "Preset") -> None:
        """Raise InvalidOption where the options do not fit together."""
        from bebr.core.codes import CodeSpec
        from bebr.errors import InvalidOption

        if recipe.published and (self.size.code is None or len(CodeSpec.parse(self.size.code).blocks) != 1):
            raise InvalidOption("the published recipe needs one uniform block: give it with --code, such as 256x2")
        if self.target.embedding is not None:
            check_embedding_model(self.target.embedding)

    def _notes(self) -> list[str]:
        """A sentence for each adapter of --base: it belongs to the binarizer that the new one replaces."""
        if (base := self.target.embedding) is None:
            return []
        return [
            f"the adapter of '{base.id}' to '{entry.bundle}' is not carried over; train one for the new bundle with "
            "bebr train-adapter"
            for entry in base.manifest.compatible_with
        ]

    def _write(
        self, trained: "Trained", held_out: "HeldOut", metrics: dict[str, Any], notes: Sequence[str], data: TrainingData
    ) -> "tuple[list[Bundle], Path]":
        """The bundle and its prefixes, and the model card."""
        from bebr_training.binarizer.export import check_export
        from bebr_training.binarizer.model import Published
        from bebr_training.reports.card import measure, write_card

        check = check_export(trained.files, trained.reference, held_out.queries)
        bundle = self.target.write(trained.files, held_out.queries.shape[1], metrics)
        card = write_card(bundle, trained, measure(bundle, held_out, data.show), check, data.path.name, notes)
        if isinstance(trained.reference, Published):
            return [bundle], card
        return [bundle, *self.target.write_prefixes(trained.reference, self.size, metrics)], card


@dataclass(frozen=True)
class _Written:
    """What a run wrote."""

    bundles: "list[Bundle]"
    """The bundle, then those of its prefixes."""
    trained: "Trained"
    card: Path
    metrics: dict[str, Any]
    notes: Sequence[str]

    def print(self, as_json: bool) -> None:
        from bebr.cli.output import err, out, print_json

        bundle, *prefixes = self.bundles
        if as_json:
            shown = {"bundle": asdict(bundle.summary()), "prefixes": [asdict(prefix.summary()) for prefix in prefixes]}
            print_json({**shown, "path": str(bundle.path), "card": str(self.card), **self.metrics})
            return
        for note in self.notes:
            err().print(f"{note}.", markup=False)
        out().print(
            f"[bold]{bundle.id}[/] in {bundle.path}: {bundle.spec}, {bundle.spec.code_size_bytes} bytes per point, "
            f"{_metrics(self.trained)}"
        )
        for prefix in prefixes:
            out().print(f"[bold]{prefix.id}[/] in {prefix.path}: {prefix.spec}, the first blocks of the same codes")
        out().print(f"model card: {self.card}", markup=False)


def _metrics(trained: "Trained") -> str:
    recall = f"held-out recall@10 {trained.recall:.3f} (start {trained.start_recall:.3f})"
    return f"{recall}, nDCG@10 {trained.ndcg[1]:.3f} (start {trained.ndcg[0]:.3f})" if trained.ndcg else recall
