"""A runner ends its job, waits for what is away, and stops between two steps."""

import asyncio

import pytest
from tests.waiting import until

from bebr.core.types import JobState
from bebr.errors import InvalidOption, StoreUnavailable
from bebr.jobs import runner
from bebr.jobs.runner import Runner


class Script(Runner):
    """Raises what it is given, one after the other; None: the work is done."""

    def __init__(self, *outcomes: Exception | None) -> None:
        super().__init__("the job of a test")
        self.outcomes = list(outcomes)
        self.end: tuple[JobState, str | None] | None = None
        self.stops = 0

    async def work(self) -> None:
        if (outcome := self.outcomes.pop(0)) is not None:
            raise outcome

    async def ended(self, state: JobState, detail: str | None) -> None:
        self.end = state, detail

    async def stopped(self) -> None:
        self.stops += 1


@pytest.mark.parametrize(
    ("outcome", "end"),
    [
        (None, (JobState.SUCCEEDED, None)),
        (InvalidOption("no such thing"), (JobState.FAILED, "InvalidOption: no such thing")),
        (RuntimeError("a bug"), (JobState.FAILED, "unexpected RuntimeError; the log of the service has it")),
    ],
)
async def test_a_job_ends(outcome: Exception | None, end: tuple[JobState, str | None]) -> None:
    job = Script(outcome)
    await job.run()
    assert job.end == end and not job.stops


async def test_what_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RETRY_SECONDS", 0.001)
    job = Script(StoreUnavailable("the store is away"), OSError("no disk"), None)
    await job.run()
    assert job.end == (JobState.SUCCEEDED, None) and not job.outcomes
    assert job.waiting == "waiting: no disk"


async def test_a_job_that_waits_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RETRY_SECONDS", 3600.0)
    job, finished = Script(StoreUnavailable("the store is away")), asyncio.Event()
    job.start(finished.set)
    await until(lambda: job.waiting, "the job waits")
    await job.stop()
    assert job.stops == 1 and job.end is None and finished.is_set()


async def test_an_end_that_cannot_be_saved_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RETRY_SECONDS", 0.001)
    failures = iter([StoreUnavailable("the store is away"), OSError("no disk")])

    async def save() -> None:
        if (error := next(failures, None)) is not None:
            raise error

    await Script().until_saved(save)
    assert next(failures, None) is None


async def test_an_aborted_job_saves_nothing() -> None:
    class Endless(Script):
        async def work(self) -> None:
            await asyncio.Event().wait()

    job = Endless()
    job.start(lambda: None)
    await asyncio.sleep(0)
    await job.abort()
    assert not job.stops and job.end is None
