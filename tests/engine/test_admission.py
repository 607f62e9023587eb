"""A lane knows how long work would wait, lets nobody starve, and drops what nobody waits for."""

import time
from collections.abc import Iterator

import pytest

from bebr.config import Limits
from bebr.engine.admission import ALWAYS, NOBODY, SERVING_SECONDS, Admission, Caller, Lane, caller
from bebr.errors import Abandoned, DeadlineExceeded, Overloaded


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    token = caller.set(NOBODY)
    yield
    caller.reset(token)


def lane(always: int = 1) -> Lane:
    return Lane("tests", "tests", seconds_per_unit=0.1, patience_seconds=2.0, always=always)


def test_what_could_not_begin_within_half_of_its_patience_is_refused_on_arrival() -> None:
    work = lane()
    work.enter("a", 10)  # one second of work
    work.check("a")
    work.enter("a", 1)
    with pytest.raises(Overloaded, match=r"tests wait for about 1\.1 s") as refused:
        work.check("a")
    assert refused.value.fields == {"waiting": "tests", "retry_after_seconds": 2}
    assert work.refused == 1
    caller.set(Caller(deadline=time.monotonic() + 60))  # who has more patience may wait
    work.check("a")
    caller.set(Caller(deadline=time.monotonic() - 1))
    with pytest.raises(DeadlineExceeded):
        work.check("a")


def test_a_collection_waits_for_its_own_work_and_as_much_of_each_other() -> None:
    work = lane()
    work.enter("busy", 1000)
    assert work.wait_seconds("idle") == 0
    work.check("idle")
    work.enter("idle", 2)
    assert work.wait_seconds("idle") == pytest.approx(0.4)
    assert work.wait_seconds("busy") == pytest.approx(100.2)
    work.leave("busy", 1000, done=False)
    assert work.wait_seconds("idle") == pytest.approx(0.2)


def test_few_requests_are_taken_whatever_the_estimate_says() -> None:
    work = lane(always=ALWAYS)
    for _ in range(ALWAYS):
        work.check("a")
        work.enter("a", 1000)
    with pytest.raises(Overloaded):
        work.check("a")


def test_the_rate_follows_what_is_measured_a_step_at_a_time() -> None:
    work = lane()
    work.enter("a", 1)
    time.sleep(0.06)
    work.leave("a", 1, done=True)
    first = work.seconds_per_unit
    assert 0.05 < first <= 0.25 and first != 0.1, "one unit in 60 ms or more, after a guess of 100"
    work.enter("a", 1000)
    time.sleep(0.06)
    work.leave("a", 1000, done=True)
    assert work.seconds_per_unit == pytest.approx((first + first / 4) / 2), "a window moves it by a bounded step"
    assert not work.is_busy and work.backlog_seconds == 0
    now = work.seconds_per_unit
    work.enter("a", 5)
    time.sleep(0.06)
    work.leave("a", 5, done=False)
    assert work.seconds_per_unit == now, "what was dropped says nothing about the rate"


def test_what_nobody_waits_for_is_dropped_when_its_turn_comes() -> None:
    work = lane()
    left = False
    caller.set(Caller(has_left=lambda: left))
    drop = work.drop()
    assert drop() is None
    left = True
    assert isinstance(drop(), Abandoned)
    caller.set(Caller(deadline=time.monotonic() + 0.01))
    drop = work.drop(begun=True)
    time.sleep(0.02)
    assert isinstance(drop(), DeadlineExceeded)
    assert work.dropped == 2


def test_patience_ends_where_nobody_said_how_long_it_lasts_and_jobs_have_no_end_of_it() -> None:
    short = Admission(Limits(request_timeout_seconds=0.01))
    drops = [short.searches.drop(), short.background.drop(), short.written_texts.drop(begun=True)]
    time.sleep(0.02)
    assert [type(drop()) for drop in drops] == [Overloaded, type(None), type(None)]


def test_somebody_who_was_served_a_moment_ago_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    admission = Admission(Limits())
    assert not admission.is_serving()
    admission.searches.enter("somebody", 1)
    now += 10
    assert admission.is_serving() and admission.searches.idle_seconds == 0
    admission.searches.leave("somebody", 1, done=True)
    now += SERVING_SECONDS / 2
    assert admission.is_serving() and admission.searches.idle_seconds == SERVING_SECONDS / 2
    now += SERVING_SECONDS
    assert not admission.is_serving()
