"""The recurrent binarizer as a torch module, and the published one: codes, queries, and the graph of both.

`Learned` computes what `bebr.encoding.quantization.recurrent.Recurrent` computes, and starts from one: an initial
block, then loops of a reconstruction and a residual block that end on the grid. Gradients use the straight-through
estimator, as in BEBR: one more residual step is differentiated with the points before it held fixed, and the grid
counts as the identity within its range.

    decoder (dims, embedding_dims)   what a code represents; also gives the encoder side and the Gram matrix
    query (dims, embedding_dims)     what the query side adds to the decoder; zero at the start

`Published` is BEBR's own (KDD 2023): c_0 = s(W f), f_t = normalize(B_t(c_t)), c_{t+1} = c_t + 2^-(t+1) s(R_t(f - f_t)),
with W, B, R multi-layer perceptrons that start from random weights. It serves as a baseline.
"""

from dataclasses import replace
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from bebr.core.arrays import Floats
from bebr.core.codes import CodeSpec
from bebr.encoding import BinarizerFiles, Gain
from bebr.encoding.quantization.recurrent import Moves, Recurrent, couplings
from bebr.encoding.quantization.recurrent_fit import FIT_HARDNESS, assemble, initial_block
from bebr.encoding.quantization.recurrent_graph import files_of
from bebr_training.binarizer.published_graph import published_to_onnx


class Model(Protocol):
    """What the trainer needs from a binarizer."""

    def codes(self, rows: Tensor) -> list[Tensor]:
        """rows (rows, embedding_dims), unit -> the points that their codes represent, with gradient.

        The whole code comes first, then the prefixes of a nested code.
        """

    def queries(self, rows: Tensor) -> Tensor:
        """rows (rows, embedding_dims), unit -> (rows, n); the product with `codes` is the adc score."""

    def files(self) -> BinarizerFiles:
        """The files of a bundle."""


class Grid(torch.autograd.Function):
    """The nearest grid point. The gradient passes through where the value lay within the grid."""

    @staticmethod
    def forward(context: Any, values: Tensor, halves: Tensor) -> Tensor:
        context.save_for_backward(values, halves)
        return torch.minimum(torch.maximum(torch.floor(values), -halves), halves - 1) + 0.5

    @staticmethod
    def backward(context: Any, *gradients: Any) -> tuple[Tensor, None]:
        values, halves = context.saved_tensors
        return gradients[0] * (values.abs() <= halves), None


def to_grid(values: Tensor, halves: Tensor) -> Tensor:
    """values (rows, dims), halves (dims,): half the number of levels -> half-integer grid points."""
    return cast(Tensor, Grid.apply(values, halves))  # type: ignore[no-untyped-call]


class Learned(nn.Module):
    """A fitted `Recurrent` whose decoder and query side are trained."""

    def __init__(self, start: Recurrent) -> None:
        super().__init__()
        self.start = start
        self.shares = torch.from_numpy(couplings(start.spec) if start.nested else np.ones_like(start.gram))
        decoder = start.encoder.T / self.shares.diagonal().numpy()[:, None]
        self.decoder = nn.Parameter(torch.from_numpy(decoder.copy()))
        self.query = nn.Parameter(torch.from_numpy(start.decoder - decoder))
        self.mean = torch.from_numpy(start.mean)
        self.felt = None if start.felt is None else torch.from_numpy(start.felt)
        self.levels = torch.from_numpy(start.halves)

    def codes(self, rows: Tensor) -> list[Tensor]:
        """(rows, embedding_dims) each: what the codes represent, as long to queries as the rows minus the mean."""
        deviations = rows - self.mean
        gram = self.decoder @ self.decoder.T * self.shares
        residuals = deviations @ self.decoder.T * self.shares.diagonal()
        with torch.no_grad():
            fixed = gram.detach().numpy()
            moves = Moves.of(fixed, self.start.halves)
            points = torch.from_numpy(moves.search(residuals.detach().numpy(), initial_block(fixed), FIT_HARDNESS))
        aims = points + (residuals - points @ gram) / gram.diagonal()
        aims = torch.where(aims.abs() <= self.levels, aims, aims.detach())
        points, decoder = points + aims - aims.detach(), self.decoder + self.query
        lengths = self._felt_length(deviations)
        ends = np.cumsum(self.start.spec.block_dims)[::-1] if self.start.nested else [self.start.spec.dims]
        decoded = [points[:, :end] @ decoder[:end] for end in ends]
        return [lengths / self._felt_length(one) * one for one in decoded]

    def _felt_length(self, rows: Tensor) -> Tensor:
        """`Recurrent.felt_length` (rows, 1)."""
        squares = rows.square().sum(dim=1, keepdim=True)
        if self.felt is not None:
            squares = squares + (rows @ self.felt).square().sum(dim=1, keepdim=True)
        return squares.clamp_min(1e-24).sqrt()

    def queries(self, rows: Tensor) -> Tensor:
        """The rows unchanged: `codes` are in the space of embeddings, and <D f, p> = <f, p D>."""
        return rows

    def binarizer(self) -> Recurrent:
        """The reference implementation with the trained values."""
        decoder = np.ascontiguousarray(self.decoder.detach().numpy())
        plain = np.eye(decoder.shape[1], dtype=np.float32)
        own = assemble(self.start.spec, decoder, metric=plain, mean=self.start.mean, nested=self.start.nested)
        query_side = np.ascontiguousarray((self.decoder + self.query).detach().numpy())
        return replace(own, decoder=query_side, shrink=self.start.shrink, felt=self.start.felt)

    def files(self) -> BinarizerFiles:
        return files_of(self.binarizer())


def _perceptron(dims_in: int, hidden: int, dims_out: int) -> nn.Sequential:
    """Linear, batch norm, ReLU, linear, as in the code that BEBR's authors released."""
    layers = nn.Sequential(nn.Linear(dims_in, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, dims_out))
    for layer in (layers[0], layers[3]):
        nn.init.xavier_uniform_(cast(Tensor, layer.weight))
        nn.init.zeros_(cast(Tensor, layer.bias))
    return layers


class Published(nn.Module):
    """BEBR's recurrent binarizer with one uniform block: bits - 1 loops after the first sign."""

    def __init__(self, embedding_dims: int, spec: CodeSpec, hidden: int = 2048) -> None:
        super().__init__()
        (block,) = spec.blocks
        self.spec, self.dims, self.bits, self.embedding_dims = spec, block.dims, block.bits, embedding_dims
        self.first = _perceptron(embedding_dims, hidden, self.dims)
        loops = range(self.bits - 1)
        self.reconstruct = nn.ModuleList(_perceptron(self.dims, hidden, embedding_dims) for _ in loops)
        self.residual = nn.ModuleList(_perceptron(embedding_dims, hidden, self.dims) for _ in loops)
        self.one = torch.ones(1)

    def values(self, rows: Tensor) -> Tensor:
        """rows (rows, embedding_dims), unit -> weighted sums of signs (rows, dims): odd multiples of 2^-(bits - 1)."""
        total = self._sign(self.first(rows))
        for loop, (reconstruct, residual) in enumerate(zip(self.reconstruct, self.residual, strict=True), 1):
            missing = rows - functional.normalize(reconstruct(total), dim=1)
            total = total + 2.0**-loop * self._sign(residual(missing))
        return total

    @torch.no_grad()
    def quantize(self, rows: Floats) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """rows (rows, embedding_dims), unit -> levels (rows, dims) uint8, gains (rows,) float16, in evaluation mode."""
        self.eval()
        values = self.values(torch.from_numpy(rows)).numpy()
        self.train()
        levels = (values * 2 ** (self.bits - 1) + 2**self.bits - 1) / 2
        return np.rint(levels).astype(np.uint8), (1 / np.linalg.norm(values, axis=1)).astype(np.float16)

    @torch.no_grad()
    def margins(self, rows: Floats) -> Floats:
        """(rows,) float32: the smallest magnitude of any value whose sign is taken."""
        self.eval()
        seen: list[Tensor] = []
        hooks = [
            net.register_forward_hook(lambda _, __, made: seen.append(made)) for net in (self.first, *self.residual)
        ]
        self.values(torch.from_numpy(rows))
        for hook in hooks:
            hook.remove()
        self.train()
        return cast(Floats, torch.cat(seen, dim=1).abs().min(dim=1).values.numpy())

    def _sign(self, values: Tensor) -> Tensor:
        """+-1. The gradient passes through where |value| <= 1."""
        return 2 * to_grid(values, self.one)

    def codes(self, rows: Tensor) -> list[Tensor]:
        return [functional.normalize(self.values(rows), dim=1)]

    def queries(self, rows: Tensor) -> Tensor:
        """The published search is symmetric: a query is its own code."""
        return self.codes(rows)[0]

    def files(self) -> BinarizerFiles:
        step = np.full(1, 2.0 ** -(self.bits - 1), np.float32)
        loops = [
            (cast(nn.Sequential, reconstruct), cast(nn.Sequential, residual))
            for reconstruct, residual in zip(self.reconstruct, self.residual, strict=True)
        ]
        graph = published_to_onnx(self.first, loops, self.embedding_dims, self.dims)
        return BinarizerFiles(graph, self.spec, step, Gain.COSINE)
