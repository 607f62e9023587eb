"""Training recipes: one frozen record of numbers each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A recipe."""

    steps: int = 300
    """Steps of the first stage, without labels."""
    seeds: int = 48
    """Rows that a batch is built around."""
    neighbors: int = 15
    """Float neighbors of each seed that join the batch."""
    temperature: float = 0.04
    """Of the softmax over scores."""
    learning_rate: float = 2e-3
    symmetric: float = 0.3
    """Weight of distillation with codes as queries, beside that with floats as queries."""
    contrastive: float = 0.0
    """Weight of InfoNCE between a row and one of its neighbors."""
    hardest: int | None = None
    """Negatives with the highest scores that InfoNCE counts; None: all."""
    queue: int = 0
    """Codes of earlier batches that are further negatives of InfoNCE."""
    published: bool = False
    """Train BEBR's own binarizer and objective from random weights, not the fitted binarizer with distillation."""
    evaluate_every: int = 50
    """Steps between two measurements on held-out data."""
    patience: int = 3
    """Measurements without improvement after which a stage ends."""
    pair_steps: int = 200
    """Steps of the second stage, on relevance judgments."""
    pairs: int = 128
    """Queries in a batch of the second stage."""
    hard_negatives: int = 8
    """Documents per query of that batch that rank high by floats."""
    pair_temperature: float = 0.05
    pair_learning_rate: float = 2e-2
    seed: int = 0
    """Decides everything that is random."""


PRESETS = {
    "distil": Preset(),
    "quick": Preset(steps=60, evaluate_every=20),
    "contrastive": Preset(contrastive=0.3, queue=4096),
    "published": Preset(
        steps=300,
        seeds=1024,
        neighbors=1,
        temperature=0.05,
        learning_rate=0.08,
        symmetric=0.0,
        contrastive=1.0,
        hardest=5,
        published=True,
    ),
}
