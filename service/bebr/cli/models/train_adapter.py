"""`bebr train-adapter`: trains adapters, by which queries of one bundle search the codes of others, and back."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from dataclasses import replace as replaced
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from bebr.cli.models.adapter_destination import Destination, destinations
from bebr.cli.models.options import Data, Out, Pairs, Replace, Seed, Steps, Threads
from bebr.cli.models.registry import bundles_folder, check_folder_is_used, find_bundle
from bebr.cli.models.target import Target
from bebr.cli.models.training_data import TrainingData, recipe_of, use_threads
from bebr.cli.options import AsJson, ConfigFile, DataDir

if TYPE_CHECKING:
    from bebr.encoding import BinarizerFiles, Bundle, CompatibilityFiles
    from bebr_training.adapters.train import TrainedAdapters
    from bebr_training.binarizer.presets import Preset
    from bebr_training.data.pairs import Pairs as JudgedPairs
    from bebr_training.data.rows import TrainingRows

From = Annotated[str, typer.Option("--from", help="Bundle whose queries get adapters, by id or folder.")]
To = Annotated[list[str], typer.Option("--to", help="Bundle whose codes they are to search; repeat for several.")]
ToEmbeddings = Annotated[
    list[Path] | None, typer.Option(help="The same rows embedded by the model of --to, one file for each.")
]
ToModel = Annotated[list[str] | None, typer.Option(help="Which embeddings of --pairs are of that model, one for each.")]
Model = Annotated[str | None, typer.Option(help="Which embeddings of --pairs are of the model of --from.")]
PresetName = Annotated[str, typer.Option("--preset", help="distil, quick or contrastive.")]
Name = Annotated[str | None, typer.Option(help="Name of the bundle.", show_default="that of --from")]
Version = Annotated[str | None, typer.Option(help="Version of the bundle.", show_default="that of --from")]


def train_adapter(
    context: typer.Context,
    data: Data,
    from_bundle: From,
    to_bundles: To,
    to_embeddings: ToEmbeddings = None,
    pairs: Pairs = None,
    model: Model = None,
    to_model: ToModel = None,
    preset: PresetName = "distil",
    steps: Steps = None,
    seed: Seed = 0,
    threads: Threads = 0,
    name: Name = None,
    version: Version = None,
    out: Out = None,
    replace: Replace = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Train adapters: queries of one bundle search the codes of another, and the other way round.

    A collection can then change its model without re-encoding a point. The bundle is written again with its adapters;
    its codes stay valid. With --pairs, relevance judgments choose the default kind of adapter. Needs the extra [train].
    """
    from bebr.cli.output import counted_progress

    check_folder_is_used(context, out is None, from_bundle, *to_bundles)
    base = find_bundle(from_bundle, data_dir, config)
    folder = out or bundles_folder(data_dir, config)
    target = Target(folder, name or base.name, version or base.version, replace, base)
    target.check_free()
    recipe, others = recipe_of(preset, steps, seed), [find_bundle(one, data_dir, config) for one in to_bundles]
    with counted_progress("reading") as show:
        source = TrainingData(data, base, pairs, model, threads, show)
        run = _Run(base, destinations(others, to_embeddings or (), to_model or ()), source, recipe)
        written = run.write(target)
    written.print(as_json)


@dataclass(frozen=True)
class _Run:
    """Adapters between one bundle and others."""

    base: "Bundle"
    destinations: Sequence[Destination]
    data: TrainingData
    recipe: "Preset"

    def write(self, target: Target) -> "_Written":
        """Train, then write the bundle with its new adapters beside those to other bundles that it had."""
        binarizer = self._checked()
        use_threads(self.data.threads)
        read = self.data.rows()
        trained = self._train(read, binarizer, self.data.judged(read))
        renewed = {one.destination.bundle.fingerprint for one in trained}
        kept = [files for files in self.base.read_compatibilities() if files.fingerprint not in renewed]
        beside = _card_files(self.base)
        target = replaced(target, adapters=[*kept, *(one.files() for one in trained)])
        bundle = target.write(binarizer, self.base.embedding_dims, self.base.figures)
        return _Written(bundle, self.base, trained, _write_card(bundle, beside, trained), read.notes)

    def _checked(self) -> "BinarizerFiles":
        """The binarizer. Raises InvalidOption for what cannot be right, before the work rather than after it."""
        from bebr.errors import InvalidOption

        if self.recipe.published:
            raise InvalidOption("--preset published trains a binarizer: expected distil, quick or contrastive")
        seen: set[str] = set()
        for one in self.destinations:
            one.check(self.data)
            if one.bundle.fingerprint in seen:
                raise InvalidOption(f"--to names '{one.bundle.id}', or the same model, twice")
            seen.add(one.bundle.fingerprint)
        self._check_texts()
        if (binarizer := self.base.read_binarizer()) is None:
            raise InvalidOption(f"bundle '{self.base.id}' has no binarizer: make one with bebr fit or bebr train")
        for one in self.destinations:
            if one.is_same_model(binarizer, self.base):
                raise InvalidOption(f"'{one.bundle.id}' and '{self.base.id}' are one model and need no adapter")
        return binarizer

    def _check_texts(self) -> None:
        from bebr.errors import InvalidOption
        from bebr_training.data.rows import is_text

        if is_text(self.data.path) and not self.base.has_embedding_model:
            raise InvalidOption(
                f"bundle '{self.base.id}' has no embedding model, so it cannot embed '{self.data.path}'"
            )

    def _train(
        self, read: "TrainingRows", binarizer: "BinarizerFiles", judged: "JudgedPairs | None"
    ) -> "list[_TrainedAdapter]":
        from bebr_training.adapters.train import ModelData, train_adapters
        from bebr_training.search.coded import Candidate

        stands_for = Candidate.of_files("new", binarizer, read.rows.shape[1]).stands_for
        here = ModelData(read.rows, stands_for, self.base.has_embedding_model, judged)
        done = []
        for one in self.destinations:
            there, started = one.version(self.data, read), perf_counter()
            trained = train_adapters(here, there, self.recipe, self.data.show)
            done.append(_TrainedAdapter(one, trained, perf_counter() - started))
        return done


@dataclass(frozen=True)
class _TrainedAdapter:
    """Both directions between the bundle and a destination."""

    destination: Destination
    trained: "TrainedAdapters"
    seconds: float
    """How long the training took."""

    def files(self) -> "CompatibilityFiles":
        return self.trained.files(self.destination.bundle, {"seconds": round(self.seconds, 1)})

    def print(self) -> None:
        """Print a table of the kinds of adapter with their metrics, and a sentence on the backward direction."""
        from bebr.cli.output import out, table
        from bebr_training.reports.adapter import COLUMNS, RIGHT, backward_summary, cells, heading, verdict

        forward = self.trained.forward
        out().print(f"[bold]{heading(self.destination.bundle.id, forward)}[/]")
        rows = table(*COLUMNS, right=RIGHT)
        for kind in forward.matrix.new_to_old:
            rows.add_row(*cells(forward, kind), style="bold green" if kind is forward.files.default else None)
        out().print(rows)
        out().print(f"{verdict(forward)}.", markup=False)
        out().print(f"{backward_summary(self.trained.backward)}.", markup=False)


@dataclass(frozen=True)
class _Written:
    """What a run wrote."""

    bundle: "Bundle"
    base: "Bundle"
    adapters: Sequence[_TrainedAdapter]
    card: Path
    notes: Sequence[str]

    def print(self, as_json: bool) -> None:
        from bebr.cli.output import err, out, print_json

        if as_json:
            adapters = {one.destination.bundle.id: dict(one.files().figures) for one in self.adapters}
            shown = {"bundle": asdict(self.bundle.summary()), "path": str(self.bundle.path), "card": str(self.card)}
            print_json(shown | {"adapters": adapters})
            return
        for note in self.notes:
            err().print(f"{note}.", markup=False)
        out().print(
            f"[bold]{self.bundle.id}[/] in {self.bundle.path}: {self.bundle.spec}, the binarizer of {self.base.id}"
        )
        for one in self.adapters:
            one.print()
        out().print(f"model card: {self.card}", markup=False)


def _card_files(base: "Bundle") -> dict[str, bytes]:
    """The model card of a bundle and its picture, where it has them."""
    from bebr_training.reports.card import CARD, PICTURE

    return {name: (base.path / name).read_bytes() for name in (CARD, PICTURE) if (base.path / name).is_file()}


def _write_card(bundle: "Bundle", beside: dict[str, bytes], adapters: Sequence[_TrainedAdapter]) -> Path:
    """Write the card of the base with a section for each adapter, and its picture."""
    from bebr_training.reports.adapter import with_section
    from bebr_training.reports.card import CARD

    for name, content in beside.items():
        (bundle.path / name).write_bytes(content)
    text = beside.get(CARD, f"# {bundle.id}\n".encode()).decode()
    for one in adapters:
        text = with_section(text, one.destination.bundle.id, one.trained)
    card = bundle.path / CARD
    card.write_text(text, "utf-8")
    return card
