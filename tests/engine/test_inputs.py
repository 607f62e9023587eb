"""Codes that come from outside, with and without what may follow them."""

import numpy as np
import pytest

from bebr.core.codes import CodeSpec, rescore_records, rescore_values, split_records
from bebr.engine.inputs import read_code
from bebr.errors import DimensionMismatch, InvalidCode

SPEC, STEPS = CodeSpec.parse("8x2/7x2+9x1"), np.ones(1, np.float32)
ONE, TWO = b"\x00\x3c", b"\x00\x40"
CODE, FINER = b"\x1b\xe4", b"\xff\x00\xff\x01"


def test_a_code_comes_alone_with_its_gain_or_as_a_whole_record() -> None:
    for data in (CODE, CODE + TWO, CODE + TWO + FINER[:1] + b"\x3f\xff\x01" + ONE):
        record = read_code(data, SPEC, STEPS)[None]
        codes, gains = split_records(record, SPEC)
        assert codes.tobytes() == CODE and record.shape == (1, SPEC.record_size_bytes)
        assert gains[0] == 2 or len(data) == SPEC.code_size_bytes
        finer = rescore_values(rescore_records(record, SPEC), SPEC)
        assert (np.abs(finer) > 0).all() == (len(data) == SPEC.record_size_bytes)


@pytest.mark.parametrize("size", [0, 1, 3, 5, 6, 8, 9, 11])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(DimensionMismatch, match="2 bytes, or 4 with its float16 gain, or 10 with its rescore code"):
        read_code(bytes(size), SPEC, STEPS)
    if size > 4:
        with pytest.raises(DimensionMismatch, match=r"4 with its float16 gain, got"):
            read_code(bytes(size), SPEC.scan, STEPS)


@pytest.mark.parametrize(
    ("rescore", "message"),
    [
        (b"\xff\xc0\xff\x01" + ONE, "padding bits"),
        (b"\xff\x00\xff\x03" + ONE, "padding bits"),
        (b"\xff\x00\xff\x01\x00\x7c", "gain"),
        (b"\xff\x00\xff\x01\x00\x7e", "gain"),
        (b"\xff\x00\xff\x01\x00\xbc", "gain"),
    ],
)
def test_a_rescore_code_is_checked(rescore: bytes, message: str) -> None:
    with pytest.raises(InvalidCode, match=message):
        read_code(CODE + ONE + rescore, SPEC, STEPS)
