"""CodeSpec and the packing of levels: what the bytes of a code mean.

A code is the packed levels of one point. A *level* is an integer 0 .. 2^bits-1 of one dimension and represents the odd
grid value `2 * level - (2^bits - 1)`. A CodeSpec is an ordered list of blocks of (dims, bits), most bits first.

Bytes: blocks follow each other, each padded with zero bits to a whole byte. Inside a block, consecutive dimensions fill
a byte from its low bits up: dimension d lies in byte `d // (8 / bits)` at bit `bits * (d % (8 / bits))`.
The top bit of a level is the sign of its grid value; these signs are plane 0, the Hamming code.

A spec may have a *rescore* part, written after a slash: `256x2/384x2+256x1`. Its code is finer, is never scanned, and
is read for the best candidates of a scan only. Whatever else a spec says is about the scan code, which stands first.

    record:  scan code | gain | rescore code | rescore gain          gains: little-endian float16
"""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bebr.errors import InvalidCode, InvalidSpec

MAX_BLOCKS = 4
MAX_DIMS = 16_384
"""With this many dims an integer score still fits an int32: 16384 * 127 * 15 * 2 < 2^31; it is rounded once."""
GAIN_SIZE_BYTES = 2
"""A code in a record is followed by its gain, a little-endian float16."""


@dataclass(frozen=True, slots=True)
class Block:
    """`dims` consecutive dimensions of `bits` bits each."""

    dims: int
    bits: int

    @property
    def size_bytes(self) -> int:
        return (self.dims * self.bits + 7) // 8


@dataclass(frozen=True)
class CodeSpec:
    """The layout of a code, written `48x4+128x2+64x1`, or with a rescore code `256x2/384x2+256x1`.

    Raises InvalidSpec when a block has no dims, bits other than 1, 2 or 4 (or 8 in a rescore code), or when bits
    increase.
    """

    blocks: tuple[Block, ...]
    """Those of the scan code."""
    rescore: "RescoreSpec | None" = None
    """The finer code beside the scan code."""
    allowed_bits: ClassVar[tuple[int, ...]] = (1, 2, 4)
    max_dims: ClassVar[int] = MAX_DIMS

    def __post_init__(self) -> None:
        if not 1 <= len(self.blocks) <= MAX_BLOCKS:
            raise InvalidSpec(f"a code has 1 to {MAX_BLOCKS} blocks, got {len(self.blocks)}")
        for block in self.blocks:
            if block.dims < 1 or block.bits not in self.allowed_bits:
                allowed = f"{', '.join(map(str, self.allowed_bits[:-1]))} or {self.allowed_bits[-1]}"
                raise InvalidSpec(f"block '{block.dims}x{block.bits}': dims must be at least 1 and bits {allowed}")
        bits = [block.bits for block in self.blocks]
        if bits != sorted(bits, reverse=True):
            raise InvalidSpec(f"blocks must stand most bits first, got '{self}'")
        if self.dims > self.max_dims:
            raise InvalidSpec(f"a code has at most {self.max_dims} dims, '{self}' has {self.dims}")

    @classmethod
    def parse(cls, text: str) -> "CodeSpec":
        """'128x4', '48x4+128x2+64x1' or '256x2/384x2+256x1' -> CodeSpec."""
        if not isinstance(text, str) or not re.fullmatch(f"{_BLOCKS}(/{_BLOCKS})?", text):
            raise InvalidSpec(
                "a code is written as dims x bits, for example '256x2' or '48x4+128x2+64x1', and its rescore code "
                f"after a slash, for example '256x2/384x2+256x1', got {text!r}"
            )
        return _parse(text)

    def __hash__(self) -> int:  # every search looks up what belongs to its spec
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.blocks, self.rescore))

    def __str__(self) -> str:
        scan = "+".join(f"{block.dims}x{block.bits}" for block in self.blocks)
        return scan if self.rescore is None else f"{scan}/{self.rescore}"

    @cached_property
    def dims(self) -> int:
        return sum(block.dims for block in self.blocks)

    @cached_property
    def code_size_bytes(self) -> int:
        return sum(block.size_bytes for block in self.blocks)

    @cached_property
    def scan(self) -> "CodeSpec":
        """The same without a rescore code."""
        return self if self.rescore is None else CodeSpec(self.blocks)

    @cached_property
    def scan_record_size_bytes(self) -> int:
        """Size of the part of a record that is scanned: the scan code and its gain."""
        return self.code_size_bytes + GAIN_SIZE_BYTES

    @cached_property
    def rescore_code_size_bytes(self) -> int:
        """Size of the rescore code alone, as `code_size_bytes` is of the scan code; 0 without one."""
        return 0 if self.rescore is None else self.rescore.code_size_bytes

    @cached_property
    def rescore_size_bytes(self) -> int:
        """Size of the part of a record that is read for candidates: the rescore code and its gain; 0 without one."""
        return 0 if self.rescore is None else self.rescore.scan_record_size_bytes

    @cached_property
    def record_size_bytes(self) -> int:
        """Size of a stored record: both parts."""
        return self.scan_record_size_bytes + self.rescore_size_bytes

    @cached_property
    def dim_slices(self) -> tuple[slice, ...]:
        """The dimensions of each block."""
        starts = zip(self.block_starts.tolist(), self.blocks, strict=True)
        return tuple(slice(start, start + block.dims) for start, block in starts)

    @cached_property
    def block_dims(self) -> NDArray[np.int64]:
        """(blocks,) int64: dims of each block."""
        return np.array([block.dims for block in self.blocks], np.int64)

    @cached_property
    def block_starts(self) -> NDArray[np.int64]:
        """(blocks,) int64: first dimension of each block."""
        return np.cumsum(self.block_dims) - self.block_dims

    @cached_property
    def byte_slices(self) -> tuple[slice, ...]:
        """The bytes of each block."""
        ends = np.cumsum([block.size_bytes for block in self.blocks]).tolist()
        return tuple(slice(end - block.size_bytes, end) for end, block in zip(ends, self.blocks, strict=True))

    @cached_property
    def max_levels(self) -> NDArray[np.uint8]:
        """(dims,) uint8: 2^bits - 1 of every dimension."""
        return np.repeat([2**block.bits - 1 for block in self.blocks], self.block_dims).astype(np.uint8)

    def prefix(self, blocks: int) -> "CodeSpec":
        """The coarser code made of the first `blocks` blocks; it has no rescore code."""
        return CodeSpec(self.blocks[:blocks])


class RescoreSpec(CodeSpec):
    """The layout of a rescore code: it is never scanned, so a dimension may have 8 bits. It has no steps.

    Several dimensions may be parts of one axis of the embeddings, so there may be more of them than in a scan code.
    """

    allowed_bits = (1, 2, 4, 8)
    max_dims = MAX_BLOCKS * MAX_DIMS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rescore is not None:
            raise InvalidSpec("a rescore code has no rescore code of its own")


_BLOCKS = r"[0-9]{1,5}x[0-9](?:\+[0-9]{1,5}x[0-9])*"


@lru_cache(maxsize=1024)
def _parse(text: str) -> CodeSpec:
    scan, _, rescore = text.partition("/")
    return CodeSpec(_parse_blocks(scan), RescoreSpec(_parse_blocks(rescore)) if rescore else None)


def _parse_blocks(text: str) -> tuple[Block, ...]:
    pairs = [part.split("x") for part in text.split("+")]
    return tuple(Block(int(dims), int(bits)) for dims, bits in pairs)


def pack_levels(levels: NDArray[np.uint8], spec: CodeSpec) -> NDArray[np.uint8]:
    """levels (rows, dims) uint8 -> codes (rows, code_size_bytes) uint8. Raises InvalidCode on a level out of range."""
    if levels.ndim != 2 or levels.shape[1] != spec.dims:
        raise InvalidCode(f"expected levels of shape (rows, {spec.dims}) for '{spec}', got {levels.shape}")
    if (levels > spec.max_levels).any():
        raise InvalidCode(f"a level of '{spec}' is out of range 0 .. 2^bits - 1")
    codes = np.zeros((len(levels), spec.code_size_bytes), np.uint8)
    for block, dims, where in zip(spec.blocks, spec.dim_slices, spec.byte_slices, strict=True):
        fields = 8 // block.bits
        padded = np.zeros((len(levels), block.size_bytes * fields), np.uint8)
        padded[:, : block.dims] = levels[:, dims]
        for field in range(fields):
            codes[:, where] |= padded[:, field::fields] << np.uint8(block.bits * field)
    return codes


def unpack_levels(codes: NDArray[np.uint8], spec: CodeSpec) -> NDArray[np.uint8]:
    """codes (rows, code_size_bytes) uint8 -> levels (rows, dims) uint8; the inverse of `pack_levels`."""
    _check_codes(codes, spec)
    levels = np.empty((len(codes), spec.dims), np.uint8)
    for block, dims, where in zip(spec.blocks, spec.dim_slices, spec.byte_slices, strict=True):
        shifts = np.arange(0, 8, block.bits, dtype=np.uint8)
        fields = (codes[:, where, None] >> shifts) & np.uint8(2**block.bits - 1)
        levels[:, dims] = fields.reshape(len(codes), block.size_bytes * len(shifts))[:, : block.dims]
    return levels


def check_padding(codes: NDArray[np.uint8], spec: CodeSpec) -> NDArray[np.bool_]:
    """codes (rows, code_size_bytes) uint8 -> (rows,) bool: True where all padding bits are zero."""
    _check_codes(codes, spec)
    sound = np.ones(len(codes), bool)
    for block, where in zip(spec.blocks, spec.byte_slices, strict=True):
        used_bits = block.dims * block.bits % 8
        if used_bits:
            sound &= (codes[:, where.stop - 1] >> np.uint8(used_bits)) == 0
    return sound


def grid_values(levels: NDArray[np.uint8], spec: CodeSpec) -> NDArray[np.int8]:
    """levels (rows, dims) uint8 -> odd integers 2 * level - (2^bits - 1) of shape (rows, dims) int8."""
    return 2 * levels.astype(np.int8) - spec.max_levels.astype(np.int8)


def rescore_grid_values(levels: NDArray[np.uint8], spec: CodeSpec) -> NDArray[np.int16]:
    """levels (rows, rescore.dims) uint8 -> odd integers as `grid_values`, int16: those of 8 bits do not fit int8."""
    rescore = need_rescore(spec)
    return 2 * levels.astype(np.int16) - rescore.max_levels.astype(np.int16)


def need_rescore(spec: CodeSpec) -> RescoreSpec:
    """The rescore part of a spec. Raises InvalidCode where it has none."""
    if spec.rescore is None:
        raise InvalidCode(f"'{spec}' has no rescore code")
    return spec.rescore


def code_values(records: NDArray[np.uint8], spec: CodeSpec, steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """records (rows, record_size_bytes) uint8, steps (blocks,) float32 -> gain * step * grid (rows, dims) float32.

    Those of the scan code.
    The inner product with a query's code-space vector is adc, but for the rounding of queries.
    """
    codes, gains = split_records(records, spec)
    grid = grid_values(unpack_levels(codes, spec), spec).astype(np.float32)
    values: NDArray[np.float32] = grid * np.repeat(steps, spec.block_dims) * gains.astype(np.float32)[:, None]
    return values


def cosine_gains(levels: NDArray[np.uint8], spec: CodeSpec, steps: NDArray[np.float32]) -> NDArray[np.float16]:
    """levels (rows, dims) uint8, steps (blocks,) float32 -> gains 1 / |step * grid value| of shape (rows,) float16.

    With these gains sdc is the cosine of two codes, as BEBR (KDD 2023) defines it.
    """
    scaled = grid_values(levels, spec) * np.repeat(steps, spec.block_dims)
    gains: NDArray[np.float16] = (1.0 / np.linalg.norm(scaled, axis=1)).astype(np.float16)
    return gains


def rescore_values(records: NDArray[np.uint8], spec: CodeSpec) -> NDArray[np.float32]:
    """Rescore records (rows, rescore_size_bytes) uint8 -> gain * grid value (rows, rescore.dims) float32."""
    rescore = need_rescore(spec)
    codes, gains = split_records(records, rescore)
    grid = rescore_grid_values(unpack_levels(codes, rescore), spec)
    values: NDArray[np.float32] = grid * gains.astype(np.float32)[:, None]
    return values


def join_records(
    codes: NDArray[np.uint8], gains: NDArray[np.float16], rescore: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """codes (rows, code_size_bytes) uint8 and gains (rows,) float16 -> records (rows, record_size_bytes) uint8.

    rescore: (rows, rescore_size_bytes) uint8, where the spec has a rescore code.
    """
    gain_bytes = np.ascontiguousarray(gains, dtype="<f2").view(np.uint8).reshape(len(codes), GAIN_SIZE_BYTES)
    return np.hstack([codes, gain_bytes] if rescore is None else [codes, gain_bytes, rescore])


def split_records(records: NDArray[np.uint8], spec: CodeSpec) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """records (rows, record_size_bytes) uint8 -> scan codes (rows, code_size_bytes) uint8, gains (rows,) float16."""
    _check_records(records, spec)
    codes = np.ascontiguousarray(records[:, : spec.code_size_bytes])
    gains = np.ascontiguousarray(records[:, spec.code_size_bytes : spec.scan_record_size_bytes])
    return codes, gains.view("<f2").ravel()


def rescore_records(records: NDArray[np.uint8], spec: CodeSpec) -> NDArray[np.uint8]:
    """records (rows, record_size_bytes) uint8 -> rescore codes with their gains (rows, rescore_size_bytes) uint8."""
    _check_records(records, spec)
    return np.ascontiguousarray(records[:, spec.scan_record_size_bytes :])


def _check_records(records: NDArray[np.uint8], spec: CodeSpec) -> None:
    if records.ndim != 2 or records.shape[1] != spec.record_size_bytes:
        raise InvalidCode(
            f"expected records of shape (rows, {spec.record_size_bytes}) for '{spec}', got {records.shape}"
        )


def _check_codes(codes: NDArray[np.uint8], spec: CodeSpec) -> None:
    if codes.ndim != 2 or codes.shape[1] != spec.code_size_bytes:
        raise InvalidCode(f"expected codes of shape (rows, {spec.code_size_bytes}) for '{spec}', got {codes.shape}")
