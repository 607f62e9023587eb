"""How to train: one frozen record of numbers for each recipe."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A recipe. Every step takes `seeds` rows and, of each, some of its float neighbours.

    published: BEBR's own binarizer and objective, from random weights; else the fitted one with distillation.
    symmetric: weight of the distillation of codes against codes, beside floats against codes. contrastive: weight of
    InfoNCE between a row and one of its neighbours. hardest: negatives that count there. queue: codes of earlier
    batches that are negatives too. pairs: batch of judged queries in the supervised stage.
    """

    steps: int = 300
    seeds: int = 48
    neighbours: int = 15
    temperature: float = 0.04
    learning_rate: float = 2e-3
    symmetric: float = 0.3
    contrastive: float = 0.0
    hardest: int | None = None
    queue: int = 0
    published: bool = False
    evaluate_every: int = 50
    patience: int = 3
    pair_steps: int = 200
    pairs: int = 128
    hard_negatives: int = 8
    pair_temperature: float = 0.05
    pair_learning_rate: float = 2e-2
    seed: int = 0


PRESETS = {
    "distil": Preset(),
    "quick": Preset(steps=60, evaluate_every=20),
    "contrastive": Preset(contrastive=0.3, queue=4096),
    "published": Preset(
        steps=300,
        seeds=1024,
        neighbours=1,
        temperature=0.05,
        learning_rate=0.08,
        symmetric=0.0,
        contrastive=1.0,
        hardest=5,
        published=True,
    ),
}
