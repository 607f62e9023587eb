"""What `train` and `train-adapter` read: embeddings or texts, relevance judgments, and the training recipe."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bebr.cli.extra import train_extra
from bebr.cli.models.registry import check_dims

if TYPE_CHECKING:
    from bebr.encoding import Bundle
    from bebr.encoding.progress import Progress
    from bebr_training.binarizer.presets import Preset
    from bebr_training.data.collections import TextEmbedder
    from bebr_training.data.pairs import Pairs
    from bebr_training.data.rows import TrainingRows


@dataclass(frozen=True)
class TrainingData:
    """The data options of a command."""

    path: Path
    """DATA: a file of embeddings or of texts."""
    bundle: "Bundle | None"
    """Bundle whose model made the embeddings, or embeds the texts."""
    pairs: Path | None
    """--pairs: a collection folder with relevance judgments."""
    model: str | None
    """--model: which embeddings of the pairs to read, where the folder has several."""
    threads: int
    """--threads: 0 for all cores."""
    show: "Progress"

    def rows(self) -> "TrainingRows":
        """Unit rows. Raises InvalidOption and what reading raises, DimensionMismatch when the bundle has other dims."""
        from bebr_training.data.rows import training_rows

        read = training_rows(self.path, self.embedder(self.bundle))
        if self.bundle is not None:
            check_dims(self.bundle, read.rows.shape[1])
        return read

    def judged(self, read: "TrainingRows") -> "Pairs | None":
        """The queries and documents of --pairs, embedded as the rows are. Raises InvalidOption."""
        from bebr.errors import InvalidOption
        from bebr_training.data.rows import judged_pairs

        if self.pairs is not None:
            return judged_pairs(self.pairs, self.model, read.rows.shape[1], self.embedder(self.bundle))
        if self.model is not None:
            raise InvalidOption("--model selects embeddings of --pairs, which is missing", option="model")
        return None

    def embedder(self, bundle: "Bundle | None") -> "TextEmbedder | None":
        """What embeds texts by the model of a bundle; None where it has no embedding model."""
        from bebr.encoding.encoder import Encoder
        from bebr_training.data.collections import TextEmbedder

        if bundle is None or not bundle.has_embedding_model:
            return None
        return TextEmbedder(Encoder(bundle, use_threads(self.threads)), None, self.show)


def use_threads(threads: int) -> int:
    """Set the threads of faiss, all cores for 0, and return how many that is. Raises InvalidOption without [train]."""
    with train_extra():
        from bebr_training.baselines import methods
    return methods.use_threads(threads)


def recipe_of(preset: str, steps: int | None, seed: int) -> "Preset":
    """The recipe of --preset, --steps and --seed. Raises InvalidOption."""
    from bebr.errors import InvalidOption

    with train_extra():
        from bebr_training.binarizer.presets import PRESETS
    if preset not in PRESETS:
        raise InvalidOption(f"--preset: expected one of {', '.join(PRESETS)}, got '{preset}'", option="preset")
    recipe = replace(PRESETS[preset], seed=seed)
    return recipe if steps is None else replace(recipe, steps=steps)
