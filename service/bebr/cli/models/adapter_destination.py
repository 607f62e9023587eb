"""The bundles that `bebr train-adapter` leads to: their codes exist already, and queries of another model are to search
them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bebr.cli.models.training_data import TrainingData

if TYPE_CHECKING:
    from bebr.encoding import BinarizerFiles, Bundle
    from bebr_training.adapters.train import ModelData
    from bebr_training.data.rows import TrainingRows


@dataclass(frozen=True)
class Destination:
    """A bundle of --to."""

    bundle: "Bundle"
    embeddings: Path | None
    """--to-embeddings: the rows of the data by its model; without a file its model embeds the texts."""
    model: str | None
    """--to-model: which embeddings of --pairs are of its model."""

    def check(self, data: TrainingData) -> None:
        """Raise InvalidOption where its embeddings of the data, or of --pairs, are missing."""
        _ = self.bundle.binarizer  # raises where there is none
        self._check_rows(data)
        self._check_pairs(data.pairs)

    def _check_rows(self, data: TrainingData) -> None:
        from bebr.errors import InvalidOption
        from bebr_training.data.rows import is_text

        if self.embeddings is not None:
            return
        if not is_text(data.path):
            raise InvalidOption(
                f"'{data.path}' holds embeddings of one model: give the embeddings of the same rows by the model of "
                f"'{self.bundle.id}' with --to-embeddings"
            )
        if not self.bundle.has_embedding_model:
            raise InvalidOption(
                f"bundle '{self.bundle.id}' has no embedding model: give its embeddings of the texts with "
                "--to-embeddings"
            )

    def _check_pairs(self, pairs: Path | None) -> None:
        from bebr.errors import InvalidOption
        from bebr_training.data.collections import has_embeddings

        if self.model is not None and pairs is None:
            raise InvalidOption("--to-model selects embeddings of --pairs, which is missing")
        if pairs is None or self.model is not None:
            return
        if has_embeddings(pairs):
            raise InvalidOption(
                f"'{pairs}' holds embeddings: select those by the model of '{self.bundle.id}' with --to-model, and "
                "those by the model of --from with --model"
            )
        if not self.bundle.has_embedding_model:
            raise InvalidOption(f"bundle '{self.bundle.id}' has no embedding model, so it cannot embed '{pairs}'")

    def version(self, data: TrainingData, read: "TrainingRows") -> "ModelData":
        """Its embeddings of the rows that were read, and what its codes represent."""
        from bebr_training.adapters.train import ModelData
        from bebr_training.data.rows import aligned_rows, judged_pairs
        from bebr_training.search.coded import Candidate

        dims, embedder = self.bundle.embedding_dims, data.embedder(self.bundle)
        rows = aligned_rows(self.embeddings or data.path, read, dims, embedder)
        pairs = judged_pairs(data.pairs, self.model, dims, embedder) if data.pairs is not None else None
        return ModelData(rows, Candidate.of_bundle(self.bundle, dims).stands_for, embedder is not None, pairs)

    def is_same_model(self, binarizer: "BinarizerFiles", base: "Bundle") -> bool:
        """Whether this binarizer with the embedding model of `base` has the fingerprint of the bundle."""
        embeddings = [bundle.manifest.embedding for bundle in (self.bundle, base)]
        settings = [entry.settings if entry is not None else None for entry in embeddings]
        own = self.bundle.read_binarizer()
        if own is None or settings[0] != settings[1]:
            return False
        return (own.graph, own.rescore) == (binarizer.graph, binarizer.rescore)


def destinations(
    bundles: "Sequence[Bundle]", embeddings: Sequence[Path], models: Sequence[str]
) -> tuple[Destination, ...]:
    """--to with --to-embeddings and --to-model: one value for each bundle, or none. Raises InvalidOption."""
    from bebr.errors import InvalidOption

    for option, values in (("--to-embeddings", embeddings), ("--to-model", models)):
        if values and len(values) != len(bundles):
            raise InvalidOption(
                f"{option} must be given once for each --to, got {len(values)} values for {len(bundles)} bundles"
            )
    nothing = [None] * len(bundles)
    return tuple(Destination(*one) for one in zip(bundles, embeddings or nothing, models or nothing, strict=True))
