"""The layouts that are tried for a size in bytes: from few dims of many bits to many dims of few bits."""

from collections.abc import Iterator

from bebr.core.codes import CodeSpec
from bebr.errors import InvalidOption, InvalidSpec

FOUR_BIT_SHARES = (0, 1 / 4, 1 / 2, 3 / 4, 1)
"""Shares of the bytes of a code that its 4-bit block may take."""
ONE_BIT_SHARES = (0, 1 / 4, 1 / 2, 1)
"""Shares of the bytes of a code that its 1-bit block may take; the 2-bit block takes what is left."""


def candidates(code_size_bytes: int, embedding_dims: int) -> Iterator[CodeSpec]:
    """Specs of exactly that size with at most as many dims as the embeddings. Raises InvalidOption if there is none."""
    if code_size_bytes < 1:
        raise InvalidOption(f"a code has at least 1 byte, got {code_size_bytes}", option="bytes")
    splits = [(four, one) for four in FOUR_BIT_SHARES for one in ONE_BIT_SHARES if four + one <= 1]
    found = [_from_bytes(round(f * code_size_bytes), round(o * code_size_bytes), code_size_bytes) for f, o in splits]
    fitting = [spec for spec in dict.fromkeys(found) if spec is not None and spec.dims <= embedding_dims]
    if not fitting:
        raise InvalidOption(
            f"no code of {code_size_bytes} bytes has as few as the {embedding_dims} dims of the embeddings; "
            f"the largest is {embedding_dims * 4 // 8} bytes",
            option="bytes",
        )
    yield from fitting


def _from_bytes(four_bit_bytes: int, one_bit_bytes: int, code_size_bytes: int) -> CodeSpec | None:
    """The spec whose blocks of 4, 2 and 1 bits take these bytes, the 2-bit block what is left; None if it has none.

    Whole 32-bit words where the size allows it, because the kernel pads every block to words.
    """
    if code_size_bytes % 4 == 0:
        four_bit_bytes, one_bit_bytes = four_bit_bytes // 4 * 4, one_bit_bytes // 4 * 4
    two_bit_bytes = code_size_bytes - four_bit_bytes - one_bit_bytes
    if two_bit_bytes < 0:
        return None
    blocks = [(2 * four_bit_bytes, 4), (4 * two_bit_bytes, 2), (8 * one_bit_bytes, 1)]
    try:
        return CodeSpec.parse("+".join(f"{dims}x{bits}" for dims, bits in blocks if dims))
    except InvalidSpec:  # More dims than any code may have.
        return None
