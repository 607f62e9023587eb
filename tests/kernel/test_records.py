"""Records that the kernel makes of levels equal those of `bebr.core.codes`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bebr.core.codes import Block, CodeSpec, RescoreSpec, code_values, join_records, pack_levels
from bebr.errors import InvalidCode
from bebr.kernel.records import represent, write_records


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_records_and_what_they_represent_equal_core(data: st.DataObject) -> None:
    is_rescore = data.draw(st.booleans())
    allowed = [1, 2, 4, 8] if is_rescore else [1, 2, 4]
    bits = sorted(data.draw(st.lists(st.sampled_from(allowed), min_size=1, max_size=4)), reverse=True)
    blocks = tuple(Block(data.draw(st.integers(1, 40)), b) for b in bits)
    spec = RescoreSpec(blocks) if is_rescore else CodeSpec(blocks)
    rng, rows = np.random.default_rng(data.draw(st.integers(0, 2**32))), data.draw(st.integers(0, 5))
    levels = (rng.integers(0, 256, (rows, spec.dims)) & spec.max_levels).astype(np.uint8)
    gains = rng.choice(np.array([0, 6e-8, 1e-3, 0.5, 3, np.inf], np.float16), rows)
    before = data.draw(st.integers(0, 3))
    records = np.full((rows, before + spec.scan_record_size_bytes + 2), 77, np.uint8)
    assert write_records(levels, gains, spec, records, before)
    made = records[:, before:-2]
    assert np.array_equal(made, join_records(pack_levels(levels, spec), gains))
    assert (records[:, :before] == 77).all() and (records[:, -2:] == 77).all()
    steps = rng.random(len(blocks)).astype(np.float32)
    if not is_rescore:
        with np.errstate(invalid="ignore"):
            wanted = code_values(np.ascontiguousarray(made), spec, steps)
        assert np.array_equal(represent(levels, gains, spec, steps), wanted, equal_nan=True)
    if rows and (narrow := np.flatnonzero(spec.max_levels < 255)).size:
        levels[-1, narrow[-1]] = spec.max_levels[narrow[-1]] + 1
        assert not write_records(levels, gains, spec, records, before)


def test_what_does_not_fit_is_refused() -> None:
    spec, gains = CodeSpec.parse("16x2"), np.ones(3, np.float16)
    levels, records = np.zeros((3, 16), np.uint8), np.zeros((3, 6), np.uint8)
    with pytest.raises(InvalidCode):
        write_records(levels[:, :15].copy(), gains, spec, records)
    with pytest.raises(ValueError, match="no room"):
        write_records(levels, gains, spec, records, 1)
    with pytest.raises(ValueError, match="gains"):
        write_records(levels, gains[:2], spec, records)
    with pytest.raises(ValueError, match="steps"):
        represent(levels, gains, spec, np.ones(0, np.float32))
