"""Samples by id: random, the same in every order, and still a sample when more come."""

import numpy as np

from bebr.core.sampling import sample_keys, smallest

IDS = [f"p{n:06}" for n in range(20_000)]


def test_ids_that_are_counted_up_are_drawn_evenly() -> None:
    drawn = smallest(sample_keys(IDS), 4_000)
    per_tenth = np.bincount(drawn // 2_000, minlength=10)
    assert abs(per_tenth - 400).max() < 80  # four standard deviations
    assert abs(np.bincount(drawn % 16, minlength=16) - 250).max() < 62


def test_the_order_does_not_matter_and_a_part_draws_its_part() -> None:
    keys = sample_keys(IDS)
    assert (sample_keys(IDS[::-1])[::-1] == keys).all() and keys.dtype == np.uint32
    drawn = set(smallest(keys, 1_000).tolist())
    first = set(smallest(keys[:5_000], 1_000).tolist())
    assert {place for place in drawn if place < 5_000} <= first


def test_odd_ids_have_keys_too() -> None:
    assert len(set(sample_keys(["", "\udc80", "ä", "a" * 256]).tolist())) == 4
    assert smallest(sample_keys([]), 5).tolist() == []
