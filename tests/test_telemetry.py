"""Lines of the log: fields, requests, bounds, outages."""

import asyncio
import json
import logging
from collections.abc import Iterator

import pytest

from bebr.telemetry import Budget, JsonLines, Outage, Request, TextLines, event

log = logging.getLogger("bebr.test")


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.objects: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text.append(TextLines().format(record))
        self.objects.append(json.loads(JsonLines().format(record)))


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)


def test_an_event_is_a_line_for_people_and_an_object_for_machines(lines: Lines) -> None:
    event(log, "job ended", job="3f2a", points=12, detail="two\nlines, 'quoted'", nothing=None)
    assert lines.text[0].endswith(" INFO bebr.test: job ended job=3f2a points=12 detail=\"two\\nlines, 'quoted'\"")
    assert lines.objects[0] | {"time": 0} == {
        "time": 0,
        "level": "info",
        "logger": "bebr.test",
        "message": "job ended",
        "job": "3f2a",
        "points": 12,
        "detail": "two\nlines, 'quoted'",
    }


def test_a_level_that_is_off_costs_nothing(lines: Lines) -> None:
    event(log, "detail", logging.DEBUG, text="x")
    assert not lines.text


async def test_every_line_names_the_request_that_is_served(lines: Lines) -> None:
    async def later() -> None:
        await asyncio.sleep(0.01)
        log.warning("a line of %s", "later")

    async def serve() -> asyncio.Task[None]:
        request = Request("id-1")
        log.info("old style")
        await asyncio.to_thread(log.info, "in a thread")
        background = asyncio.create_task(later())
        request.ended()
        return background

    await (await asyncio.create_task(serve()))
    log.info("outside")
    assert [line.get("request") for line in lines.objects] == ["id-1", "id-1", None, None]
    assert lines.text[0].endswith("old style request=id-1") and lines.text[2].endswith("a line of later")


def test_a_budget_bounds_the_lines_and_counts_the_others() -> None:
    now = 100.0
    budget = Budget(2, lambda: now)
    assert [budget.take() for _ in range(5)] == [True, True, False, False, False]
    now += 1.1
    assert budget.take() and budget.skipped() == 3 and budget.skipped() is None
    assert not Budget(0).take()


def test_an_outage_is_told_once_and_so_is_its_end(lines: Lines) -> None:
    store = Outage(log, "store is away", "store is back", store="redis")
    store.works()
    for _ in range(3):
        store.fails("timeout", shard=1)
    store.works()
    store.works()
    assert [line["message"] for line in lines.objects] == ["store is away", "store is back"]
    assert lines.objects[0]["why"] == "timeout" and lines.objects[0]["store"] == lines.objects[1]["store"] == "redis"
