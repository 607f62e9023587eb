"""Codes: what the bytes mean, and that nothing is lost between levels and bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bebr.core.codes import (
    CodeSpec,
    check_padding,
    cosine_gains,
    grid_values,
    join_records,
    pack_levels,
    rescore_grid_values,
    rescore_records,
    rescore_values,
    split_records,
    unpack_levels,
)
from bebr.core.scoring import dot_scores, prepare_sdc
from bebr.errors import InvalidCode, InvalidSpec

specs = (
    st.lists(st.tuples(st.integers(1, 70), st.sampled_from([1, 2, 4])), min_size=1, max_size=4)
    .map(lambda blocks: sorted(blocks, key=lambda block: -block[1]))
    .map(lambda blocks: CodeSpec.parse("+".join(f"{dims}x{bits}" for dims, bits in blocks)))
)


rescored_specs = st.tuples(
    specs, st.lists(st.tuples(st.integers(1, 70), st.sampled_from([1, 2, 4, 8])), min_size=1, max_size=4)
).map(
    lambda both: CodeSpec.parse(
        f"{both[0]}/" + "+".join(f"{dims}x{bits}" for dims, bits in sorted(both[1], key=lambda block: -block[1]))
    )
)


def random_levels(spec: CodeSpec, rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, spec.max_levels.astype(int) + 1, (rows, spec.dims)).astype(np.uint8)


@given(specs, st.integers(0, 5), st.integers(0, 99))
def test_unpacking_undoes_packing(spec: CodeSpec, rows: int, seed: int) -> None:
    levels = random_levels(spec, rows, seed)
    codes = pack_levels(levels, spec)
    assert codes.shape == (rows, spec.code_size_bytes)
    assert np.array_equal(unpack_levels(codes, spec), levels)
    assert check_padding(codes, spec).all()
    assert CodeSpec.parse(str(spec)) == spec


def test_the_bytes_are_what_the_format_says() -> None:
    spec = CodeSpec.parse("3x4+3x2+9x1")
    levels = np.array([[1, 15, 2, 3, 0, 2, 1, 0, 0, 0, 0, 0, 0, 1, 1]], np.uint8)
    # 4 bits: low nibble first; 2 bits: 3 | 0 << 2 | 2 << 4; 1 bit: bits 0 and 7, then bit 0 of the next byte
    assert pack_levels(levels, spec).tolist() == [[0xF1, 0x02, 0x23, 0x81, 0x01]]
    assert grid_values(levels, spec).tolist() == [[-13, 15, -11, 3, -3, 1, 1, -1, -1, -1, -1, -1, -1, 1, 1]]


def test_a_prefix_of_blocks_is_a_prefix_of_bytes() -> None:
    spec = CodeSpec.parse("48x4+128x2+64x1")
    codes = pack_levels(random_levels(spec, 4), spec)
    coarse = spec.prefix(2)
    assert spec.code_size_bytes == 64 and str(coarse) == "48x4+128x2"
    assert np.array_equal(
        unpack_levels(codes[:, : coarse.code_size_bytes], coarse), unpack_levels(codes, spec)[:, : coarse.dims]
    )


def test_padding_bits_are_noticed() -> None:
    spec = CodeSpec.parse("3x4+3x2")
    codes = pack_levels(random_levels(spec, 3), spec)
    codes[1, 1] |= 0x10
    codes[2, 2] |= 0x80
    assert check_padding(codes, spec).tolist() == [True, False, False]


def test_records_are_codes_and_gains() -> None:
    spec = CodeSpec.parse("10x2")
    codes, gains = pack_levels(random_levels(spec, 5), spec), np.array([1, 0.5, 2, 0.25, 3], np.float16)
    records = join_records(codes, gains)
    assert records.shape == (5, spec.record_size_bytes)
    back, back_gains = split_records(records, spec)
    assert np.array_equal(back, codes) and np.array_equal(back_gains, gains)


@given(rescored_specs, st.integers(0, 5), st.integers(0, 99))
def test_a_record_holds_a_rescore_code_behind_the_scan_code(spec: CodeSpec, rows: int, seed: int) -> None:
    rescore = spec.rescore
    assert rescore is not None and CodeSpec.parse(str(spec)) == spec and f"{spec.scan}/{rescore}" == str(spec)
    rng = np.random.default_rng(seed)
    codes, gains = pack_levels(random_levels(spec, rows, seed), spec), rng.random(rows).astype(np.float16)
    levels, finer_gains = random_levels(rescore, rows, seed + 1), rng.random(rows).astype(np.float16)
    finer = join_records(pack_levels(levels, rescore), finer_gains)
    records = join_records(codes, gains, finer)
    assert records.shape == (rows, spec.record_size_bytes)
    assert spec.record_size_bytes == spec.scan_record_size_bytes + spec.rescore_size_bytes
    back, back_gains = split_records(records, spec)
    assert np.array_equal(back, codes) and np.array_equal(back_gains, gains)
    assert np.array_equal(rescore_records(records, spec), finer)
    grid = 2 * levels.astype(int) - rescore.max_levels.astype(int)
    assert np.array_equal(rescore_grid_values(levels, spec), grid)
    np.testing.assert_allclose(rescore_values(finer, spec), grid * finer_gains.astype(np.float32)[:, None])


def test_a_spec_speaks_of_its_scan_code() -> None:
    spec, scan = CodeSpec.parse("256x2/384x2+256x1"), CodeSpec.parse("256x2")
    assert spec.scan == scan == spec.prefix(1) and scan.scan == scan and spec != scan
    assert (spec.dims, spec.code_size_bytes, spec.scan_record_size_bytes) == (256, 64, 66)
    assert (spec.rescore_size_bytes, spec.record_size_bytes) == (130, 196)
    assert (scan.rescore_size_bytes, scan.record_size_bytes) == (0, 66)
    assert CodeSpec.parse("256x1/384x8").record_size_bytes == 34 + 386


def test_records_of_another_size_are_refused() -> None:
    spec = CodeSpec.parse("8x2/8x4")
    for size in (2, 4, spec.record_size_bytes - 1, spec.record_size_bytes + 1):
        with pytest.raises(InvalidCode, match=r"records of shape \(rows, 10\)"):
            split_records(np.zeros((3, size), np.uint8), spec)
        with pytest.raises(InvalidCode, match=r"records of shape \(rows, 10\)"):
            rescore_records(np.zeros((3, size), np.uint8), spec)
    with pytest.raises(InvalidCode, match="no rescore code"):
        rescore_values(np.zeros((3, 4), np.uint8), spec.scan)


def test_cosine_gains_make_sdc_the_cosine_of_codes() -> None:
    spec, steps = CodeSpec.parse("20x4+12x1"), np.array([0.5, 2], np.float32)
    levels = random_levels(spec, 6)
    codes = pack_levels(levels, spec)
    gains = cosine_gains(levels, spec, steps)
    scores = dot_scores(prepare_sdc(codes, gains, spec, steps), codes, gains, spec)
    values = grid_values(levels, spec) * np.repeat(steps, [20, 12])
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    assert np.allclose(scores, values @ values.T, atol=3e-3)


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            "256",
            "256x3",
            "0x4",
            "128x2+48x4",
            "1x1+1x1+1x1+1x1+1x1",
            "16385x1",
            "256X2",
            "256x2+",
            " 256x2",
            "-4x2",
        ],
        *["384x8", "256x8/384x2", "256x2/", "/256x2", "256x2/384x3", "256x2/384x2/8x1", "256x2/8x1+8x2", "8x2/65537x1"],
    ],
)
def test_a_wrong_spec_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec):
        CodeSpec.parse(text)


def test_wrong_levels_and_codes_are_refused() -> None:
    spec = CodeSpec.parse("4x2")
    with pytest.raises(InvalidCode, match="out of range"):
        pack_levels(np.full((1, 4), 4, np.uint8), spec)
    with pytest.raises(InvalidCode, match="shape"):
        pack_levels(np.zeros((1, 5), np.uint8), spec)
    with pytest.raises(InvalidCode, match="shape"):
        unpack_levels(np.zeros((1, 2), np.uint8), spec)
