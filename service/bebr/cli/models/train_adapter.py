"""The part of `bebr train` that --compatible-with asks for: adapters to bundles whose codes are there already."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from bebr.cli.models.target import Progress, Target

if TYPE_CHECKING:
    from bebr.encoding import BinarizerFiles, Bundle
    from bebr.encoding.bundles.bundle import CompatibilityFiles
    from bebr_training.adapters.train import TrainedCompatibility, Version
    from bebr_training.binarizer.presets import Preset
    from bebr_training.data.collections import TextEmbedder
    from bebr_training.data.pairs import Pairs
    from bebr_training.data.rows import TrainingRows


@dataclass(frozen=True)
class Sources:
    """Where embeddings by the new model come from: DATA, --base, --pairs and --model of `bebr train`."""

    data: Path
    base: "Bundle | None"
    pairs: Path | None
    model: str | None
    threads: int
    show: Progress

    def rows(self, taken_over: bool) -> "TrainingRows":
        """taken_over: the new bundle is to have the embedding model of the base. Raises InvalidOption without one."""
        from bebr.errors import DimensionMismatch, InvalidOption
        from bebr_training.data.rows import is_text, training_rows

        if self.base is not None and not self.base.has_embedding_model and (taken_over or is_text(self.data)):
            raise InvalidOption(f"bundle '{self.base.id}' has no embedding model to take over", option="base")
        read = training_rows(self.data, self.embedder(self.base))
        if self.base is not None and self.base.embedding_dims != read.rows.shape[1]:
            raise DimensionMismatch(
                f"bundle '{self.base.id}' makes embeddings of {self.base.embedding_dims} dims, the rows have "
                f"{read.rows.shape[1]}"
            )
        return read

    def judged(self, read: "TrainingRows") -> "Pairs | None":
        from bebr.errors import InvalidOption
        from bebr_training.data.rows import judged_pairs

        if self.pairs is not None:
            return judged_pairs(self.pairs, self.model, read.rows.shape[1], self.embedder(self.base))
        if self.model is not None:
            raise InvalidOption("--model chooses embeddings of --pairs, and there are none", option="model")
        return None

    def embedder(self, bundle: "Bundle | None") -> "TextEmbedder | None":
        from bebr.encoding.encoder import Encoder
        from bebr_training.data.collections import TextEmbedder

        if bundle is None or not bundle.has_embedding_model:
            return None
        return TextEmbedder(Encoder(bundle, max(1, self.threads)), None, self.show)


@dataclass(frozen=True)
class Old:
    """A bundle of --compatible-with.

    embeddings: a file with the rows of the data by its model; without one it embeds the texts. model: which embeddings
    of the judged pairs are of its model.
    """

    bundle: "Bundle"
    embeddings: Path | None
    model: str | None

    @classmethod
    def of(cls, bundles: "Sequence[Bundle]", embeddings: Sequence[Path], models: Sequence[str]) -> "list[Old]":
        """embeddings, models: one for each bundle, or none. Raises InvalidOption."""
        from bebr.errors import InvalidOption

        for option, values in (("--old-embeddings", embeddings), ("--old-model", models)):
            if values and not bundles:
                raise InvalidOption(f"{option} goes with --compatible-with, and there is none")
            if values and len(values) != len(bundles):
                raise InvalidOption(
                    f"{option} must be given once for each --compatible-with, got {len(values)} for {len(bundles)}"
                )
        nothing = [None] * len(bundles)
        return [cls(*one) for one in zip(bundles, embeddings or nothing, models or nothing, strict=True)]

    def check(self, sources: Sources) -> None:
        """Raise InvalidOption where its embeddings of the data, or of judged pairs, can come from nowhere."""
        from bebr.errors import InvalidOption
        from bebr_training.data.collections import has_embeddings
        from bebr_training.data.rows import is_text

        bundle, pairs = self.bundle, sources.pairs
        _ = bundle.binarizer  # raises where there is none
        if self.embeddings is None and not is_text(sources.data):
            raise InvalidOption(
                f"'{sources.data}' holds embeddings of one model: give those of the same rows by the model of "
                f"'{bundle.id}' with --old-embeddings"
            )
        if self.embeddings is None and not bundle.has_embedding_model:
            raise InvalidOption(
                f"bundle '{bundle.id}' has no embedding model: give its embeddings of the texts with --old-embeddings"
            )
        if self.model is not None and pairs is None:
            raise InvalidOption("--old-model chooses embeddings of --pairs, and there are none")
        if pairs is None or self.model is not None:
            return
        if has_embeddings(pairs):
            raise InvalidOption(
                f"'{pairs}' holds embeddings: name those by the model of '{bundle.id}' with --old-model, and those by "
                "the new one with --model"
            )
        if not bundle.has_embedding_model:
            raise InvalidOption(f"bundle '{bundle.id}' has no embedding model, so it cannot embed '{pairs}'")

    def version(self, sources: Sources, read: "TrainingRows") -> "Version":
        """Its embeddings of the texts that were read, and what its codes stand for."""
        from bebr_training.adapters.train import Version
        from bebr_training.data.rows import aligned_rows, judged_pairs
        from bebr_training.search.coded import Candidate

        dims, embedder = self.bundle.embedding_dims, sources.embedder(self.bundle)
        rows = aligned_rows(self.embeddings or sources.data, read, dims, embedder)
        pairs = judged_pairs(sources.pairs, self.model, dims, embedder) if sources.pairs is not None else None
        return Version(rows, Candidate.of_bundle(self.bundle, dims).stands_for, embedder is not None, pairs)


@dataclass(frozen=True)
class Reached:
    """A bundle that became reachable."""

    old: "Bundle"
    trained: "TrainedCompatibility"
    seconds: float

    def files(self) -> "CompatibilityFiles":
        return self.trained.files(self.old, {"seconds": round(self.seconds, 1)})


@dataclass(frozen=True)
class Upgrade:
    """All of --compatible-with. Without any there is nothing to do."""

    olds: Sequence[Old]
    sources: Sources

    def check(self, nested: bool, recipe: "Preset") -> None:
        """Raise InvalidOption for what cannot be right, before the work rather than after it."""
        from bebr.errors import InvalidOption

        if not self.olds:
            return
        if nested:
            raise InvalidOption(
                "--nested makes several bundles, and --compatible-with belongs to one: train them first, then give "
                "each as --base"
            )
        if recipe.published:
            raise InvalidOption(
                "codes of the published recipe stand for no embedding, so nothing is compatible with it"
            )
        seen: set[str] = set()
        for old in self.olds:
            old.check(self.sources)
            if old.bundle.fingerprint in seen:
                raise InvalidOption(f"--compatible-with names '{old.bundle.id}', or the same model, twice")
            seen.add(old.bundle.fingerprint)

    def check_new(self, binarizer: "BinarizerFiles") -> None:
        """Raise InvalidOption where the new bundle is one of the old ones."""
        from bebr.errors import InvalidOption

        for old in self.olds:
            if _same_model(old.bundle, binarizer, self.sources.base):
                raise InvalidOption(
                    f"'{old.bundle.id}' has the fingerprint of the new bundle: they are one model and need no adapter"
                )

    def left_behind(self) -> list[str]:
        """Sentences on what the base could reach by codes that a new binarizer replaces."""
        base = self.sources.base
        reached = [entry.bundle for entry in base.manifest.compatible_with] if base is not None else []
        anew = {old.bundle.id for old in self.olds}
        return [
            f"'{one}' is reached by the codes of --base, and by the new ones only if --compatible-with names it too"
            for one in reached
            if one not in anew
        ]

    def train(
        self, read: "TrainingRows", binarizer: "BinarizerFiles", judged: "Pairs | None", recipe: "Preset"
    ) -> list[Reached]:
        """Both directions between the new model and each old one. read, judged: as the new model embeds them."""
        from bebr_training.adapters.train import Version, train_compatible
        from bebr_training.search.coded import Candidate

        if not self.olds:
            return []
        base = self.sources.base
        stands_for = Candidate.of_files("new", binarizer, read.rows.shape[1]).stands_for
        new = Version(read.rows, stands_for, base is not None and base.has_embedding_model, judged)
        reached = []
        for one in self.olds:
            old, started = one.version(self.sources, read), perf_counter()
            trained = train_compatible(new, old, recipe, self.sources.show)
            reached.append(Reached(one.bundle, trained, perf_counter() - started))
        return reached


@dataclass(frozen=True)
class Made:
    """What a run wrote: bundles, the first of which matters most, with a line of words for each."""

    bundles: "list[Bundle]"
    words: list[str]
    card: Path
    figures: dict[str, Any]
    reached: list[Reached]
    notes: Sequence[str]

    def print(self, as_json: bool) -> None:
        """As JSON: the bundle, its shorter siblings, and all figures."""
        from bebr.cli.output import err, out, print_json

        bundle, *prefixes = self.bundles
        if as_json:
            shown = {"bundle": bundle.describe(), "prefixes": [prefix.describe() for prefix in prefixes]}
            reached = {one.old.id: dict(one.files().figures) for one in self.reached}
            print_json({**shown, "path": str(bundle.path), "card": str(self.card), **self.figures, "reached": reached})
            return
        for sentence in self.notes:
            err().print(f"{sentence}.", markup=False)
        for made, words in zip(self.bundles, self.words, strict=True):
            out().print(f"[bold]{made.id}[/]{words.removeprefix(made.id)}")
        for one in self.reached:
            _print_reached(one)
        out().print(f"model card: {self.card}", markup=False)


def keep(upgrade: Upgrade, recipe: "Preset", checkpoint: Path | None, target: Target) -> Made:
    """The bundle --base with its binarizer as it is, and adapters beside those that it has."""
    from bebr.errors import InvalidOption
    from bebr_training.reports.card import CARD, PICTURE

    base, sources = upgrade.sources.base, upgrade.sources
    assert base is not None
    if checkpoint is not None:
        raise InvalidOption("--checkpoint is for the training of a binarizer, and that of --base is kept")
    if (binarizer := base.read_binarizer()) is None:
        raise InvalidOption(
            f"bundle '{base.id}' has no binarizer to keep: give the size of a new one with --bytes, --code or "
            "--target-recall"
        )
    upgrade.check_new(binarizer)
    read = sources.rows(taken_over=False)
    reached = upgrade.train(read, binarizer, sources.judged(read), recipe)
    anew = {one.old.fingerprint for one in reached}
    carried = [files for files in base.read_compatibilities() if files.fingerprint not in anew]
    beside = {name: (base.path / name).read_bytes() for name in (CARD, PICTURE) if (base.path / name).is_file()}
    target = replace(target, reached=[*carried, *(one.files() for one in reached)])
    bundle = target.write(binarizer, base.embedding_dims, dict(base.figures))
    for name, content in beside.items():
        (bundle.path / name).write_bytes(content)
    card = add_to_card(bundle.path / CARD, beside.get(CARD, f"# {bundle.id}\n".encode()).decode(), reached)
    words = f"{bundle.id} in {bundle.path}: {bundle.spec}, the binarizer of {base.id}"
    return Made([bundle], [words], card, {}, reached, read.notes)


def _same_model(old: "Bundle", binarizer: "BinarizerFiles", base: "Bundle | None") -> bool:
    """Whether a bundle of this binarizer and the embedding model of `base` has the fingerprint of `old`."""
    embeddings = [bundle.manifest.embedding if bundle is not None else None for bundle in (old, base)]
    settings = [entry.settings if entry is not None else None for entry in embeddings]
    own = old.read_binarizer()
    return own is not None and own.graph == binarizer.graph and settings[0] == settings[1]


def add_to_card(card: Path, text: str, reached: Sequence[Reached]) -> Path:
    """Write the model card: this text, and what was measured of each bundle that became reachable."""
    from bebr_training.reports.adapter import with_section

    for one in reached:
        text = with_section(text, one.old.id, one.trained)
    card.write_text(text, "utf-8")
    return card


def _print_reached(one: Reached) -> None:
    """A table of the adapters to the codes of an old bundle, and of the one back."""
    from bebr.cli.output import out, table
    from bebr_training.reports.adapter import COLUMNS, RIGHT, cells, heading, verdict, way_back

    forward = one.trained.forward
    out().print(f"[bold]{heading(one.old.id, forward)}[/]")
    rows = table(*COLUMNS, right=RIGHT)
    for kind in forward.matrix.new_to_old:
        rows.add_row(*cells(forward, kind), style="bold green" if kind is forward.files.default else None)
    out().print(rows)
    out().print(f"{verdict(forward)}.", markup=False)
    out().print(f"{way_back(one.trained.backward)}.", markup=False)
