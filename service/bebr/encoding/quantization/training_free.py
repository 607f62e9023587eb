"""The training-free code: good for any embeddings of so many dims, from the first one on. Nothing is fitted.

The code is signs, or a few bits, of what a random rotation makes of an embedding f of length one:

    y = R f                         R: the first rows or columns of a `Rotation`, orthonormal
    v = step * grid point           found beside y, see below
    gain = 1 / <y, v>               so that a code finds its own embedding with a score of one
    query side: y

With more bits than dims and fewer than two a dim, f is turned in as many dims as there are bits, the later of its own
dims being zero, and every dim of y gets one bit. Signs of y alone would waste that: of the points p R that signs can
stand for, the one that is nearest to f is searched for, by the loops of `recurrent`. That errs less than two bits for
some dims and one for the others.

The rescore code holds what is left over, turned at random too, with equally many bits for every dim.
"""

from functools import cached_property, lru_cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

from bebr import kernel
from bebr.core.arrays import TINY, Floats
from bebr.core.codes import (
    Block,
    CodeSpec,
    RescoreSpec,
    code_values,
    join_records,
    need_rescore,
    pack_levels,
    rescore_records,
    rescore_values,
)
from bebr.core.scoring import RescoreQueries
from bebr.encoding.quantization.grid import UNIT_STEPS, grid_points, half_levels
from bebr.encoding.quantization.recurrent import HARDNESS, Moves
from bebr.encoding.quantization.recurrent_fit import initial_block
from bebr.encoding.quantization.residual import PARTS, Part
from bebr.encoding.quantization.rotation import BATCH_ROWS, rotation
from bebr.encoding.quantization.rows import check_shape
from bebr.errors import InvalidOption
from bebr.kernel import rescore

MAX_SEARCHED_DIMS = 4096
"""Codes of more dims are not searched for: their Gram matrix would take too much memory."""
MAX_MATRIX_SIZE = 2**22
"""Rotations of up to so many numbers are written down for queries: one product takes less time then."""
SEARCHED_CELLS = 1.3
"""Cells of codes that are searched for, as a multiple of those that signs alone would have."""
SCALES = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4)
"""Scales tried for each row where dims have several bits."""
MAX_GAIN = np.float32(1e4)
GROUP = 8
"""Dims that get a bit of the rescore code together: one byte."""
MAX_RESCORE_BITS = 8


def default_bytes(dims: int) -> tuple[int, int]:
    """Bytes per scan code and per rescore code for embeddings of so many dims, where nobody says.

    A bit a dim, but at least 64 bytes, or 4 bits a dim where that is less; and twice as many to rescore by.
    """
    scan = (dims + 1) // 2 if dims < 8 else min(dims // 2, max(64, 4 * -(-dims // 32)))
    return scan, min(dims, 2 * scan)


def layout_of(dims: int, size_bytes: int, rescore_bytes: int) -> CodeSpec:
    """The layout of a training-free code of at most these sizes for embeddings of `dims`. rescore_bytes 0: none."""
    return CodeSpec(_scan_blocks(dims, 8 * size_bytes), _rescore_layout(dims, rescore_bytes) if rescore_bytes else None)


def _scan_blocks(dims: int, bits: int) -> tuple[Block, ...]:
    if bits <= dims or (bits <= 2 * dims and bits <= MAX_SEARCHED_DIMS):
        return (Block(bits, 1),)
    if bits <= 2 * dims:
        finer = (bits - dims) // 8 * 8
        return _blocks((finer, 2), (dims - finer, 1))
    finer = min((bits - 2 * dims) // 2, dims) // 4 * 4 if bits < 4 * dims else dims
    return _blocks((finer, 4), (dims - finer, 2))


def _rescore_layout(dims: int, size_bytes: int) -> RescoreSpec:
    if size_bytes >= dims:
        return RescoreSpec((Block(dims, MAX_RESCORE_BITS),))
    base, more = divmod(size_bytes, -(-dims // GROUP))
    return _rescore_spec(np.where(np.arange(dims) < more * GROUP, base + 1, base).astype(np.uint8))


def _rescore_spec(bits: NDArray[np.uint8]) -> RescoreSpec:
    return RescoreSpec(_blocks(*((int(((bits & part) > 0).sum()), part) for part in PARTS)))


def _blocks(*dims_and_bits: tuple[int, int]) -> tuple[Block, ...]:
    return tuple(Block(dims, bits) for dims, bits in dims_and_bits if dims)


class TrainingFree:
    """Embeddings <-> records of a training-free code. Has what an `Encoder` without a model has. Threads may share it.

    All of it follows from the dims and the spec, so nothing has to be kept of it.
    """

    def __init__(self, embedding_dims: int, spec: CodeSpec) -> None:
        """spec: as `layout_of` makes it. Raises InvalidOption for another one."""
        self.embedding_dims = embedding_dims
        self.spec = spec
        self._turned_dims = max(spec.dims, embedding_dims)
        self._is_searched = spec.dims > embedding_dims
        self._rotation = rotation(self._turned_dims)
        self._rescore_rotation = rotation(embedding_dims)
        typical = [4.0**block.bits / 3 if block.bits > 1 else 1.0 for block in spec.blocks]
        mean_square = sum(t * block.dims for t, block in zip(typical, spec.blocks, strict=True))
        cells = np.array([UNIT_STEPS[block.bits] for block in spec.blocks])
        self.steps = (cells / cells[0] / np.sqrt(mean_square)).astype(np.float32)
        """(blocks,) float32. Only their ratio counts, since gains follow; with these, gains are about one."""
        self.mean = np.zeros(embedding_dims, np.float32)
        self.exact_mean: NDArray[np.float64] | None = None
        self._parts = self._rescore_parts()

    def _rescore_parts(self) -> tuple[Part, ...]:
        if self.spec.rescore is None:
            return ()
        total = sum(block.dims * block.bits for block in self.spec.rescore.blocks)
        base, more = divmod(total, self.embedding_dims)
        bits = np.where(np.arange(self.embedding_dims) < more, base + 1, base).astype(np.uint8)
        if _rescore_spec(bits) != self.spec.rescore:
            raise InvalidOption(f"'{self.spec}' is no training-free code of {self.embedding_dims} dims", key="code")
        self._bits = bits[bits > 0]
        return tuple(part for size in PARTS if len((part := Part.of(self._bits, size)).axes))

    # Queries

    def project(self, embeddings: Floats) -> Floats:
        """Unit embeddings (rows, embedding_dims) float32 -> the query side of adc (rows, dims) float32."""
        check_shape(embeddings, self.embedding_dims)
        if (matrix := self._matrix) is not None:
            return kernel.project(np.ascontiguousarray(embeddings, np.float32), matrix)
        return np.ascontiguousarray(self._rotation.turn(embeddings)[:, : self.spec.dims])

    def project_rescore(self, embeddings: Floats) -> Floats:
        """Embeddings (rows, embedding_dims) float32 -> queries for rescore codes (rows, spec.rescore.dims) float32."""
        check_shape(embeddings, self.embedding_dims)
        if (matrix := self._rescore_matrix) is not None:
            turned = kernel.project(np.ascontiguousarray(embeddings, np.float32), matrix)
        else:
            turned = self._rescore_rotation.turn(embeddings)
        return turned[:, self._axes] * self._factors

    def rescore_queries(self, embeddings: Floats) -> RescoreQueries:
        """The same as rescore codes take them."""
        return rescore.quantize(self.project_rescore(embeddings), self.spec)

    def code_query(self, records: NDArray[np.uint8]) -> Floats:
        """records (rows, record_size_bytes) uint8 that are queries -> the query side of sdc (rows, dims) float32."""
        return self.project(self._decode_scan(code_values(records, self.spec, self.steps)))

    @cached_property
    def metric(self) -> Floats | None:
        """(dims, dims) float32: products of what scan codes stand for; None: their dims are orthogonal."""
        if not self._is_searched:
            return None
        frame = self._frame
        return cast(Floats, frame @ frame.T)

    # Points

    def encode(self, embeddings: Floats) -> NDArray[np.uint8]:
        """Unit embeddings (rows, embedding_dims) float32 -> records (rows, record_size_bytes) uint8."""
        check_shape(embeddings, self.embedding_dims)
        records = np.empty((len(embeddings), self.spec.record_size_bytes), np.uint8)
        for start in range(0, len(embeddings), BATCH_ROWS):
            batch = slice(start, start + BATCH_ROWS)
            records[batch] = self._encode(embeddings[batch])
        return records

    def _encode(self, rows: Floats) -> NDArray[np.uint8]:
        turned = self._rotation.turn(rows)
        points = self._points(rows, turned)
        values = points * self._cells
        along = np.einsum("ij,ij->i", turned[:, : self.spec.dims], values)
        squares = np.einsum("ij,ij->i", rows, rows)
        gains = np.minimum(squares / np.maximum(along, TINY), MAX_GAIN).astype(np.float16)
        codes = pack_levels((points + (self._halves - np.float32(0.5))).astype(np.uint8), self.spec.scan)
        if self.spec.rescore is None:
            return join_records(codes, gains)
        values *= gains.astype(np.float32)[:, None]
        if self._is_searched:
            left = self._rescore_rotation.turn(rows - self._decode_scan(values))
        else:
            left = turned
            left[:, : self.spec.dims] -= values
        return join_records(codes, gains, self._rescore_records(left))

    def _points(self, rows: Floats, turned: Floats) -> Floats:
        """The grid points (rows, dims) float32 that stand for unit rows."""
        if self._is_searched:
            moves, encoder, initial = self._search
            return moves.search(rows @ encoder, initial, HARDNESS)
        z = turned[:, : self.spec.dims]
        if self.spec.blocks[0].bits == 1:
            return grid_points(z, self._halves)
        lengths = np.sqrt(np.einsum("ij,ij->i", z, z) / self.spec.dims)
        unit = z / np.maximum(lengths, TINY)[:, None] / self._unit_cells
        best, closest = np.zeros_like(z), np.full(len(z), -np.inf, np.float32)
        for scale in SCALES:
            points = grid_points(unit / np.float32(scale), self._halves)
            values = points * self._unit_cells
            closeness = np.einsum("ij,ij->i", values, z) / np.sqrt(np.einsum("ij,ij->i", values, values))
            nearer = closeness > closest
            best[nearer], closest[nearer] = points[nearer], closeness[nearer]
        return best

    def _rescore_records(self, left: Floats) -> NDArray[np.uint8]:
        """What scan codes leave over, turned (rows, embedding_dims) float32 -> (rows, rescore_size_bytes) uint8."""
        z = left[:, : len(self._bits)]
        lengths = np.sqrt(np.einsum("ij,ij->i", z, z) / z.shape[1])
        halves = np.exp2(self._bits.astype(np.float32) - 1)
        cells = np.floor(z / np.maximum(lengths, TINY)[:, None] / self._rescore_cells)
        cells = np.minimum(np.maximum(cells, -halves), halves - 1)
        middles = (cells + np.float32(0.5)) * self._rescore_cells
        gains = np.einsum("ij,ij->i", middles, z) / np.einsum("ij,ij->i", middles, middles)
        whole = (cells + halves).astype(np.uint8)
        spec = need_rescore(self.spec)
        levels = (whole[:, self._axes] >> self._shifts) & spec.max_levels
        return join_records(pack_levels(levels, spec), gains.astype(np.float16))

    def decode(self, records: NDArray[np.uint8]) -> Floats:
        """records (rows, record_size_bytes) uint8 -> the embeddings they stand for (rows, embedding_dims) float32."""
        decoded = self._decode_scan(code_values(records, self.spec, self.steps))
        if self.spec.rescore is not None:
            values = rescore_values(rescore_records(records, self.spec), self.spec) * self._factors
            turned = np.zeros((len(records), self.embedding_dims), np.float32)
            for part, dims in zip(self._parts, need_rescore(self.spec).dim_slices, strict=True):
                turned[:, part.axes] += values[:, dims]
            decoded += self._rescore_rotation.back(turned)
        return decoded

    def _decode_scan(self, values: Floats) -> Floats:
        return np.ascontiguousarray(self._rotation.back(values)[:, : self.embedding_dims])

    # What follows from dims and spec

    @cached_property
    def _halves(self) -> Floats:
        return half_levels(self.spec)

    @cached_property
    def _cells(self) -> Floats:
        """(dims,) float32: the value of a grid point of one."""
        return np.repeat(np.float32(2) * self.steps, self.spec.block_dims)

    @cached_property
    def _unit_cells(self) -> Floats:
        """(dims,) float32: the same for coordinates of mean square one."""
        return np.repeat([2 * UNIT_STEPS[block.bits] for block in self.spec.blocks], self.spec.block_dims).astype(
            np.float32
        )

    @cached_property
    def _axes(self) -> NDArray[np.int64]:
        return np.concatenate([part.axes for part in self._parts])

    @cached_property
    def _shifts(self) -> NDArray[np.uint8]:
        return np.concatenate([part.shifts for part in self._parts])

    @cached_property
    def _rescore_cells(self) -> Floats:
        return np.array([2 * UNIT_STEPS[int(bits)] for bits in self._bits], np.float32)

    @cached_property
    def _factors(self) -> Floats:
        return self._rescore_cells[self._axes] * np.exp2(self._shifts.astype(np.float32) - 1)

    @cached_property
    def _frame(self) -> Floats:
        """R (dims, embedding_dims) float32."""
        turned = self._rotation.turn(np.eye(self.embedding_dims, dtype=np.float32))
        return np.ascontiguousarray(turned[:, : self.spec.dims].T)

    @cached_property
    def _search(self) -> tuple[Moves, Floats, Floats]:
        """What searches for a code: the moves, the encoder (embedding_dims, dims), the initial block (dims, dims)."""
        cell = np.float32(SEARCHED_CELLS * 2 * UNIT_STEPS[1] / np.sqrt(self.spec.dims))
        decoder = self._frame * cell
        gram = decoder @ decoder.T
        return Moves.of(gram, self._halves), np.ascontiguousarray(decoder.T), initial_block(gram)

    @cached_property
    def _matrix(self) -> Floats | None:
        """R^T (embedding_dims, dims) float32, where it is small."""
        if self.embedding_dims * self.spec.dims > MAX_MATRIX_SIZE:
            return None
        return np.ascontiguousarray(self._frame.T)

    @cached_property
    def _rescore_matrix(self) -> Floats | None:
        if self.embedding_dims**2 > MAX_MATRIX_SIZE:
            return None
        return self._rescore_rotation.turn(np.eye(self.embedding_dims, dtype=np.float32))


@lru_cache(maxsize=64)
def training_free(embedding_dims: int, spec: CodeSpec) -> TrainingFree:
    """The codec of that code, made once."""
    return TrainingFree(embedding_dims, spec)
