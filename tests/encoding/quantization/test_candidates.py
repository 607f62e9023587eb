"""The layouts that are tried for a size."""

import pytest
from tests.encoding.quantization.embeddings import DIMS

from bebr.encoding.quantization.candidates import candidates
from bebr.errors import InvalidOption


@pytest.mark.parametrize("size_bytes", [1, 5, 8, 10, 16, 31, 32])
def test_every_candidate_has_the_size_that_was_asked_for(size_bytes: int) -> None:
    specs = list(candidates(size_bytes, DIMS))
    assert specs and len(set(specs)) == len(specs)
    assert {spec.code_size_bytes for spec in specs} == {size_bytes}
    assert max(spec.dims for spec in specs) <= DIMS


@pytest.mark.parametrize(
    ("size_bytes", "known"),
    [
        (32, {"64x4", "128x2", "256x1", "16x4+64x2+64x1"}),
        (64, {"128x4", "256x2", "64x4+128x2", "32x4+128x2+128x1"}),
        (128, {"256x4", "192x4+128x2"}),
    ],
)
def test_codes_known_to_be_good_are_candidates(size_bytes: int, known: set[str]) -> None:
    assert known <= {str(spec) for spec in candidates(size_bytes, 384)}


@pytest.mark.parametrize("size_bytes", [0, -1, 33, 10_000])
def test_sizes_without_a_code_are_refused(size_bytes: int) -> None:
    with pytest.raises(InvalidOption, match="byte"):
        list(candidates(size_bytes, DIMS))
