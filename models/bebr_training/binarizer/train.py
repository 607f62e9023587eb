"""The trainer: from embeddings to a binarizer that is never worse than its start. Read it from top to bottom.

    1. hold out   some rows are queries; what they find decides
    2. start      the fit of `bebr.encoding.quantization.layout`, or random weights for the published recipe
    3. learn      distillation from the float neighbors, and what else the preset adds
    4. supervise  with relevance judgments: only the query side learns, so no code changes
    5. keep       the best step on the held-out rows or queries, or the start where no step was better

The same seed, data and number of threads give the same binarizer. With a checkpoint, a run resumes where it stopped.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bebr.encoding import BinarizerFiles
from bebr.encoding.quantization.recurrent import Recurrent
from bebr_training.binarizer.checkpoints import load_checkpoint, save_checkpoint
from bebr_training.binarizer.model import Learned, Model, Published
from bebr_training.binarizer.objectives import Queue, contrastive, distillation
from bebr_training.binarizer.presets import Preset
from bebr_training.data.held_out import HeldOut, HeldOutPairs
from bebr_training.data.pairs import Pairs
from bebr_training.search.neighbors import Neighbors

Progress = Callable[[int, int, str], None]
"""Called as progress(done, total, what is being done)."""
CLIP = 5.0
"""Maximum norm of a gradient."""
WARM_UP = 20
"""Steps over which the learning rate rises to its value."""


@dataclass(frozen=True)
class Point:
    """One measurement during training."""

    stage: str
    """'learn' or 'supervise'."""
    step: int
    loss: float
    """Mean loss since the measurement before."""
    held_out: float
    """Recall@10 of held-out rows, or nDCG@10 of held-out queries."""


@dataclass(frozen=True)
class Trained:
    """The result of a training run."""

    files: BinarizerFiles
    """The graph and its settings."""
    reference: Recurrent | Published
    """The binarizer that the graph must equal."""
    start_recall: float
    """Recall@10 of held-out rows before training."""
    recall: float
    """Recall@10 of held-out rows after training."""
    curve: tuple[Point, ...]
    shipped: dict[str, int]
    """Stage -> the step that was kept."""
    ndcg: tuple[float, float] | None = None
    """nDCG@10 of held-out queries before and after the second stage, with relevance judgments."""

    def to_json(self) -> dict[str, Any]:
        """The metrics that a bundle keeps."""
        return {
            "held_out_recall_at_10": {"start": round(self.start_recall, 4), "shipped": round(self.recall, 4)},
            "held_out_ndcg_at_10": None if self.ndcg is None else [round(value, 4) for value in self.ndcg],
            "kept_step": self.shipped,
            "curve": [asdict(point) for point in self.curve],
        }


def train(
    held_out: HeldOut,
    start: Recurrent,
    preset: Preset,
    *,
    pairs: Pairs | None = None,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train on `held_out.training` (rows, embedding_dims), unit rows, starting from a binarizer fitted to them.

    The published preset uses only the spec of `start`, which must be one uniform block. Raises InvalidOption when the
    checkpoint is of another run.
    """
    torch.manual_seed(preset.seed)
    model: Learned | Published = Learned(start)
    if preset.published:
        model = Published(start.embedding_dims, start.spec)
    run = _Run(model, preset, checkpoint, progress or (lambda done, total, label: None))
    run.resume()
    first = held_out.recall(start if isinstance(model, Learned) else None)
    run.learn(held_out)
    ndcg = None
    if pairs is not None and isinstance(model, Learned):
        judged = HeldOutPairs(pairs, preset.seed)
        before = judged.ndcg(model.binarizer())
        run.supervise(judged)
        ndcg = (before, judged.ndcg(model.binarizer()))
    reference = model.binarizer() if isinstance(model, Learned) else model
    shipped = {stage: step for stage, (_, step) in run.best.items()}
    return Trained(model.files(), reference, first, held_out.recall(reference), tuple(run.curve), shipped, ndcg)


@dataclass
class _Run:
    """The state of a training run, which a checkpoint saves."""

    model: Learned | Published
    preset: Preset
    checkpoint: Path | None
    progress: Progress
    curve: list[Point] = field(default_factory=list)
    best: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Stage -> its best measurement, and the step of it."""
    weights: dict[str, Any] = field(default_factory=dict)
    """The model at the best step."""
    state: dict[str, Any] = field(default_factory=dict)
    """Stage, step, optimizer and random state of the checkpoint that the run resumed from."""

    def learn(self, held_out: HeldOut) -> None:
        """Stage 1: learn from the float embeddings and their neighbors, without labels."""
        preset, rng = self.preset, np.random.default_rng(self.preset.seed)
        near = Neighbors(held_out.training, rng)
        rows = torch.from_numpy(held_out.training)
        queue = Queue(preset.queue)

        def loss() -> Tensor:
            items = torch.from_numpy(near.batch(preset.seeds, preset.neighbors, rng))
            return _unsupervised(self.model, rows[items], items, preset, queue)

        def measure() -> float:
            return held_out.recall(self.model.binarizer() if isinstance(self.model, Learned) else self.model)

        self._stage("learn", preset.steps, preset.learning_rate, list(self.model.parameters()), loss, measure, rng)

    def supervise(self, judged: HeldOutPairs) -> None:
        """Stage 2: queries learn to find their relevant documents. Codes do not change."""
        assert isinstance(self.model, Learned)
        model, preset, rng = self.model, self.preset, np.random.default_rng(self.preset.seed + 1)
        points = torch.from_numpy(judged.points(model.binarizer()))
        queries = torch.from_numpy(judged.training_queries)

        def loss() -> Tensor:
            chosen, documents, positive = judged.batch(preset.pairs, preset.hard_negatives, rng)
            stands_for = torch.nn.functional.normalize(
                points[documents] @ (model.decoder.detach() + model.query), dim=1
            )
            return contrastive(queries[chosen] @ stands_for.T, torch.from_numpy(positive), preset.pair_temperature)

        def measure() -> float:
            return judged.ndcg(model.binarizer())

        self._stage("supervise", preset.pair_steps, preset.pair_learning_rate, [model.query], loss, measure, rng)

    def _stage(
        self,
        stage: str,
        steps: int,
        rate: float,
        parameters: list[torch.nn.Parameter],
        loss: Callable[[], Tensor],
        measure: Callable[[], float],
        rng: np.random.Generator,
    ) -> None:
        """Take gradient steps and keep the best one. Ends early after `patience` measurements without improvement."""
        optimizer = self._optimizer(parameters, rate)
        first = self._begin(stage, optimizer, rng, measure)
        if first is None:
            return
        losses: list[float] = []
        for step in range(first + 1, steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * self._pace(step, steps)
            optimizer.zero_grad()
            value = loss()
            value.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            losses.append(float(value.detach()))
            self.progress(step, steps, f"{stage}: loss {losses[-1]:.4f}, held-out {self.best[stage][0]:.4f}")
            if step % self.preset.evaluate_every == 0 or step == steps:
                self._record(Point(stage, step, float(np.mean(losses)), measure()))
                self._save(stage, step, optimizer, rng)
                losses.clear()
                if step - self.best[stage][1] >= self.preset.patience * self.preset.evaluate_every:
                    break
        self.model.load_state_dict(self.weights)

    def _begin(
        self, stage: str, optimizer: torch.optim.Optimizer, rng: np.random.Generator, measure: Callable[[], float]
    ) -> int | None:
        """The step to continue after: that of the checkpoint, or 0. None: the checkpoint is past this stage."""
        saved = self.state if self.state.get("stage") == stage else None
        if saved is not None:
            optimizer.load_state_dict(saved["optimizer"])
            rng.bit_generator.state = saved["rng"]
            torch.set_rng_state(saved["torch_rng"])
            return int(saved["step"])
        if stage in self.best:
            return None
        self.best[stage] = (-1.0, 0)
        self._record(Point(stage, 0, float("nan"), measure()))
        return 0

    def _record(self, point: Point) -> None:
        self.curve.append(point)
        if point.held_out > self.best[point.stage][0]:
            self.best[point.stage] = (point.held_out, point.step)
            self.weights = {name: value.clone() for name, value in self.model.state_dict().items()}

    def _optimizer(self, parameters: list[torch.nn.Parameter], rate: float) -> torch.optim.Optimizer:
        """Adam with a rate proportional to the size of the weights, or the published recipe's own optimizer."""
        if self.preset.published:
            matrices = [p for p in parameters if p.ndim > 1]
            rest = [p for p in parameters if p.ndim < 2]
            groups = [{"params": matrices, "weight_decay": 1e-3, "base": rate}, {"params": rest, "base": rate}]
            return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
        size = float(self.model.decoder.detach().std()) if isinstance(self.model, Learned) else 1.0
        return torch.optim.Adam([{"params": parameters, "base": rate * size}], lr=rate * size, betas=(0.9, 0.98))

    def _pace(self, step: int, steps: int) -> float:
        if self.preset.published:
            return 1.0 if step <= 0.6 * steps else 0.1
        return 0.5 * (1 + math.cos(math.pi * step / steps)) * min(1.0, step / WARM_UP)

    def resume(self) -> None:
        saved = load_checkpoint(self.checkpoint, self.preset) if self.checkpoint is not None else None
        if saved is not None:
            self.model.load_state_dict(saved["model"])
            self.state, self.weights, self.best = saved["state"], saved["weights"], saved["best"]
            self.curve = [Point(**point) for point in saved["curve"]]

    def _save(self, stage: str, step: int, optimizer: torch.optim.Optimizer, rng: np.random.Generator) -> None:
        if self.checkpoint is None:
            return
        state = {"stage": stage, "step": step, "optimizer": optimizer.state_dict(), "rng": rng.bit_generator.state}
        content = {
            "model": self.model.state_dict(),
            "state": state | {"torch_rng": torch.get_rng_state()},
            "weights": self.weights,
            "best": self.best,
            "curve": [asdict(point) for point in self.curve],
        }
        save_checkpoint(self.checkpoint, self.preset, content)


def _unsupervised(model: Model, rows: Tensor, items: Tensor, preset: Preset, queue: Queue) -> Tensor:
    """The loss of one batch: asymmetric and symmetric distillation, and InfoNCE with a neighbor.

    The prefixes of nested codes count in the asymmetric distillation as much as the whole code.
    """
    (codes, *prefixes), queries = model.codes(rows), model.queries(rows)
    same = items[:, None] == items[None, :]
    loss = torch.zeros(())
    if not preset.published:
        cosines = rows @ rows.T
        for part in (codes, *prefixes):
            loss = loss + distillation(queries @ part.T, cosines, same, preset.temperature) / (1 + len(prefixes))
        if preset.symmetric:
            loss = loss + preset.symmetric * distillation(codes @ codes.T, cosines, same, preset.temperature)
    if preset.contrastive:
        candidates, of = queue.extend(codes, items)
        # The first `seeds` rows are the seeds; the others are their neighbors in the same order, `neighbors` of each.
        partner = torch.arange(preset.seeds) * preset.neighbors + preset.seeds
        positive = torch.zeros(preset.seeds, len(candidates), dtype=torch.bool)
        positive[torch.arange(preset.seeds), partner] = True
        scores = queries[: preset.seeds] @ candidates.T
        repeated = (items[: preset.seeds, None] == of[None, :]) & ~positive
        scores = scores.masked_fill(repeated, -1.0)
        loss = loss + preset.contrastive * contrastive(scores, positive, preset.temperature, preset.hardest)
    return loss
