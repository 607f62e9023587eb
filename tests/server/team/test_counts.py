"""Keys are limited in the service as a whole: the oracle is one worker that is sent all requests."""

import itertools
from pathlib import Path

import pytest

from bebr.server.connections import key_limits
from bebr.server.connections.key_limits import KeyLimits
from bebr.server.team.team import Team

KEYS, RATE = ("sesame", "poppy"), 10
HEADERS = [[(b"api-key", key.encode())] for key in KEYS]
TIMES = [0.0] * 24 + [0.25] * 6 + [0.7] * 12 + [9.0] * 30
"""When requests come, in seconds."""


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(key_limits, "time", clock)
    return clock


def answers(clock: Clock, workers: list[KeyLimits]) -> list[list[bool]]:
    """Which requests of each key are let in, when the workers get them in turns."""
    let_in: list[list[bool]] = [[] for _ in KEYS]
    for clock.now, worker in zip(TIMES, itertools.cycle(workers), strict=False):
        for answered, headers in zip(let_in, HEADERS, strict=True):
            answered.append(worker.take(worker.name(headers)) is None)
    return let_in


@pytest.mark.parametrize("count", [2, 5])
def test_workers_let_in_what_one_would(tmp_path: Path, clock: Clock, count: int):
    alone = answers(clock, [KeyLimits(KEYS, RATE)])
    assert sum(alone[0]) == RATE + 2 + 5 + RATE
    together = [KeyLimits(KEYS, RATE, Team(tmp_path, number, count)) for number in range(count)]
    assert answers(clock, together) == alone


def test_a_worker_that_is_replaced_knows_what_was_counted(tmp_path: Path, clock: Clock):
    first, second = (KeyLimits(KEYS, RATE, Team(tmp_path, number, 2)) for number in range(2))
    name = first.name(HEADERS[0])
    assert [first.take(name) for _ in range(4)] == [None] * 4
    fresh = KeyLimits(KEYS, RATE, Team(tmp_path, 0, 2))
    assert fresh.take(name) is None
    assert [second.take(name) is None for _ in range(8)] == [True] * 5 + [False] * 3
