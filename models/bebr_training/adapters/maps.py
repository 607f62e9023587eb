"""Maps from the embeddings of one model to those of another: two in closed form, two learned from the first.

    procrustes         f Q with orthonormal columns, or rows where the other model has more dims: the basis of BT^2
    ridge              f W of least squared error, with a strength that is chosen on held-out rows
    distilled linear   f W, trained from the better of those two
    distilled residual f W + relu(f A + a) B + b, the same plus a perceptron that starts at zero

Training does not aim at the other model's embeddings. It aims to rank the other model's codes as this model's floats
rank the texts: by distillation, a softmax over neighbors that approaches that of the float cosines, and by BEBR's
contrastive loss, in which the positive of an item is its own old code. See docs/benchmarks.md#training-of-an-adapter.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bebr.core.arrays import Floats
from bebr_training.binarizer.objectives import contrastive, distillation
from bebr_training.binarizer.presets import Preset
from bebr_training.search.neighbors import Neighbors

Show = Callable[[str], None]
"""Called after each step as show(its loss, in words)."""

RIDGES = (0.01, 0.1, 1.0)
"""Ridge strengths to try, relative to the mean diagonal of the second moments."""
HIDDEN = 512
"""Width of the perceptron."""
RATE = 0.02
"""Learning rate relative to the size of an entry of the map."""
SCALE_RATE = 0.01
"""Learning rate of the sharpness of the scores."""
CONTRAST = 0.3
"""Weight of the contrastive loss beside distillation; both together find more than either alone."""
CLIP = 5.0
"""Maximum norm of a gradient."""


class Method(StrEnum):
    """How a map was made."""

    PROCRUSTES = "procrustes"
    RIDGE = "ridge"
    LINEAR = "distilled linear"
    RESIDUAL = "distilled residual"


@dataclass(frozen=True)
class Residual:
    """The perceptron relu(f A + a) B + b."""

    into: Floats
    """A (dims, hidden)."""
    offset: Floats
    """a (hidden,)."""
    out: Floats
    """B (hidden, their dims)."""
    bias: Floats
    """b (their dims,)."""


@dataclass(frozen=True)
class EmbeddingMap:
    """A map from the embeddings of one model to those of another."""

    matrix: Floats
    """(dims, their dims)."""
    residual: Residual | None = None
    """The perceptron that is added to the linear map."""

    def __call__(self, rows: Floats) -> Floats:
        """rows (rows, dims), unit -> (rows, their dims), of any length. The graph must equal this."""
        mapped = rows @ self.matrix
        if (more := self.residual) is not None:
            mapped = mapped + np.maximum(rows @ more.into + more.offset, 0) @ more.out + more.bias
        return cast(Floats, mapped)


def procrustes(here: Floats, there: Floats) -> Floats:
    """here (rows, dims), there (rows, their dims) -> Q (dims, their dims), for which f Q is closest (Schönemann, 1966).

    Its columns are orthonormal, or its rows where there are more columns than rows.
    """
    left, _, right = np.linalg.svd((here.T @ there).astype(np.float64), full_matrices=False)
    return np.ascontiguousarray(left @ right, np.float32)


def ridge(here: Floats, there: Floats, strength: float) -> Floats:
    """here (rows, dims), there (rows, their dims) -> W (dims, their dims), scaled to the norm of an orthonormal map."""
    moments = (here.T @ here).astype(np.float64)
    moments += strength * np.trace(moments) / len(moments) * np.eye(len(moments))
    matrix = np.linalg.solve(moments, (here.T @ there).astype(np.float64))
    size = math.sqrt(min(matrix.shape)) / max(float(np.linalg.norm(matrix)), 1e-12)
    return np.ascontiguousarray(size * matrix, np.float32)


def distil(
    start: Floats, rows: Floats, codes: Floats, near: Neighbors, preset: Preset, hidden: int, show: Show
) -> EmbeddingMap:
    """Train a map that starts at `start` (dims, their dims).

    rows (rows, dims): unit rows of this model. codes (rows, their dims): what the other model's codes of the same items
    represent. near: the neighbors among `rows`. hidden: width of the perceptron, 0 for none. The same seed and number
    of threads give the same map.
    """
    torch.manual_seed(preset.seed)
    rng = np.random.default_rng(preset.seed)
    model = _Learned(start, hidden)
    embeddings, targets = torch.from_numpy(rows), torch.from_numpy(codes)
    optimizer = torch.optim.Adam(
        [
            {"params": model.maps(), "base": RATE / math.sqrt(rows.shape[1])},
            {"params": [model.sharpness], "base": SCALE_RATE},
        ]
    )
    for step in range(preset.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * 0.5 * (1 + math.cos(math.pi * step / preset.steps))
        items = torch.from_numpy(near.batch(preset.seeds, preset.neighbors, rng))
        optimizer.zero_grad()
        loss = _loss(model, embeddings[items], targets[items], items, preset.temperature)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.maps(), CLIP)
        optimizer.step()
        show(f"loss {float(loss.detach()):.4f}")
    return model.map()


class _Learned(nn.Module):
    """A trainable `EmbeddingMap`. The perceptron's inputs and outputs have size one, so that one rate fits all."""

    def __init__(self, start: Floats, hidden: int) -> None:
        super().__init__()
        dims, theirs = start.shape
        self.before, self.after = math.sqrt(dims), 1 / math.sqrt(theirs)
        self.matrix = nn.Parameter(torch.from_numpy(start.copy()))
        self.sharpness = nn.Parameter(torch.tensor(1.0))
        self.into = nn.Linear(dims, hidden) if hidden else None
        self.out = nn.Linear(hidden, theirs) if hidden else None
        if self.out is not None:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def maps(self) -> list[nn.Parameter]:
        return [parameter for name, parameter in self.named_parameters() if name != "sharpness"]

    def forward(self, rows: Tensor) -> Tensor:
        """rows (rows, dims), unit -> (rows, their dims), unit."""
        mapped = rows @ self.matrix
        if self.into is not None and self.out is not None:
            mapped = mapped + self.after * self.out(torch.relu(self.into(self.before * rows)))
        return functional.normalize(mapped, dim=1)

    @torch.no_grad()
    def map(self) -> EmbeddingMap:
        residual = None
        if self.into is not None and self.out is not None:
            residual = Residual(
                np.ascontiguousarray(self.before * self.into.weight.T.numpy()),
                self.into.bias.numpy().copy(),
                np.ascontiguousarray(self.after * self.out.weight.T.numpy()),
                (self.after * self.out.bias).numpy(),
            )
        return EmbeddingMap(self.matrix.numpy().copy(), residual)


def _loss(model: _Learned, rows: Tensor, codes: Tensor, items: Tensor, temperature: float) -> Tensor:
    """The loss of one batch: rows (n, dims), what the other model's codes represent (n, their dims), items (n,)."""
    same = items[:, None] == items[None, :]
    scores = model(rows) @ codes.T * model.sharpness.exp()
    return distillation(scores, rows @ rows.T, same, temperature) + CONTRAST * contrastive(scores, same, temperature)
