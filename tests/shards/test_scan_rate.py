"""The rate of scans follows the machine, and one odd scan does not move it far."""

import pytest

from bebr.shards.scan_rate import FIRST_SECONDS_PER_BYTE, ScanRate

SIZE = 2**24


def test_the_rate_follows_what_scans_take() -> None:
    rate = ScanRate()
    for _ in range(100):
        rate.note(SIZE, 1, 0.01)
    assert rate.seconds(SIZE, 1) == pytest.approx(0.01, rel=0.01)
    for _ in range(100):
        rate.note(SIZE, 1, 0.001)
    assert rate.seconds(SIZE, 1) == pytest.approx(0.001, rel=0.01)
    assert rate.seconds(SIZE, 16) < 16 * rate.seconds(SIZE, 1)


def test_odd_and_small_scans_say_little() -> None:
    rate = ScanRate()
    rate.note(SIZE, 1, 100.0)
    assert rate.seconds_per_byte < 1.2 * FIRST_SECONDS_PER_BYTE
    before = rate.seconds_per_byte
    rate.note(1000, 1, 100.0)
    assert rate.seconds_per_byte == before
