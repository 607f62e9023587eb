"""Maps from the embeddings of one model to those of another: two in closed form, two learned from the first.

    procrustes         f Q with orthonormal columns (rows, where the other model has more dims): the basis of BT^2
    ridge              f W of least squared error, its strength chosen on held-out rows
    distilled linear   f W, learned from the better of those two
    distilled residual f W + relu(f A + a) B + b, the same with a perceptron that starts at zero

What is learned is not to meet the other model's embeddings but to rank its codes as this model's floats rank the
texts: a softmax over neighbours drawn to that of the float cosines, and BEBR's contrastive form, in which the positive
of an item is its own old code. Measured on 5,183 abstracts between unrelated models, nDCG@10 of the judged claims on
the other model's codes: procrustes .438, ridge .434, distilled linear .488, distilled residual .492.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from bebr_training.binarizer.objectives import contrastive, distillation
from bebr_training.binarizer.presets import Preset
from bebr_training.search.neighbors import Neighbours

Floats = NDArray[np.float32]
Show = Callable[[str], None]
"""Called after each step as show(what happened)."""

RIDGES = (0.01, 0.1, 1.0)
"""Strengths that are tried, as shares of the mean diagonal of the second moments."""
HIDDEN = 512
RATE = 0.02
"""Size of a gradient step as a share of an entry of the map."""
SCALE_RATE = 0.01
CONTRAST = 0.3
"""Weight of the contrastive form beside distillation. Measured: each alone finds less than both."""
CLIP = 5.0


class Method(StrEnum):
    """How a map was made."""

    PROCRUSTES = "procrustes"
    RIDGE = "ridge"
    LINEAR = "distilled linear"
    RESIDUAL = "distilled residual"


@dataclass(frozen=True)
class Residual:
    """relu(f A + a) B + b: into A (dims, hidden), offset a (hidden,), out B (hidden, their dims), bias b."""

    into: Floats
    offset: Floats
    out: Floats
    bias: Floats


@dataclass(frozen=True)
class Adapter:
    """matrix (dims, their dims) float32, and what is added to the linear map, if anything is."""

    matrix: Floats
    residual: Residual | None = None

    def __call__(self, rows: Floats) -> Floats:
        """rows (rows, dims), unit -> (rows, their dims), of any length: the reference of the graph."""
        mapped = rows @ self.matrix
        if (more := self.residual) is not None:
            mapped = mapped + np.maximum(rows @ more.into + more.offset, 0) @ more.out + more.bias
        return cast(Floats, mapped)


def procrustes(here: Floats, there: Floats) -> Floats:
    """here (rows, dims), there (rows, their dims) -> Q (dims, their dims): the f Q that lies closest.

    Its columns are orthonormal, or its rows where there are more columns than rows (Schönemann, 1966).
    """
    left, _, right = np.linalg.svd((here.T @ there).astype(np.float64), full_matrices=False)
    return np.ascontiguousarray(left @ right, np.float32)


def ridge(here: Floats, there: Floats, strength: float) -> Floats:
    """here (rows, dims), there (rows, their dims) -> W (dims, their dims), scaled to the size of an orthonormal map."""
    moments = (here.T @ here).astype(np.float64)
    moments += strength * np.trace(moments) / len(moments) * np.eye(len(moments))
    matrix = np.linalg.solve(moments, (here.T @ there).astype(np.float64))
    size = math.sqrt(min(matrix.shape)) / max(float(np.linalg.norm(matrix)), 1e-12)
    return np.ascontiguousarray(size * matrix, np.float32)


def distil(
    start: Floats, rows: Floats, codes: Floats, near: Neighbours, preset: Preset, hidden: int, show: Show
) -> Adapter:
    """Learn from `start` (dims, their dims); hidden: width of the perceptron, 0 for none.

    rows (rows, dims): unit, of this model. codes (rows, their dims): what the other model's codes of the same items
    stand for. near: of `rows`. The same seed and number of threads give the same adapter.
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
        items = torch.from_numpy(near.batch(preset.seeds, preset.neighbours, rng))
        optimizer.zero_grad()
        loss = _loss(model, embeddings[items], targets[items], items, preset.temperature)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.maps(), CLIP)
        optimizer.step()
        show(f"loss {float(loss.detach()):.4f}")
    return model.adapter()


class _Learned(nn.Module):
    """The twin of an `Adapter`. The perceptron sees and makes numbers of size one, so that one rate fits all."""

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
    def adapter(self) -> Adapter:
        residual = None
        if self.into is not None and self.out is not None:
            residual = Residual(
                np.ascontiguousarray(self.before * self.into.weight.T.numpy()),
                self.into.bias.numpy().copy(),
                np.ascontiguousarray(self.after * self.out.weight.T.numpy()),
                (self.after * self.out.bias).numpy(),
            )
        return Adapter(self.matrix.numpy().copy(), residual)


def _loss(model: _Learned, rows: Tensor, codes: Tensor, items: Tensor, temperature: float) -> Tensor:
    """Of one batch: rows (n, dims), what the other model's codes stand for (n, their dims), and whose they are (n,)."""
    same = items[:, None] == items[None, :]
    scores = model(rows) @ codes.T * model.sharpness.exp()
    return distillation(scores, rows @ rows.T, same, temperature) + CONTRAST * contrastive(scores, same, temperature)
