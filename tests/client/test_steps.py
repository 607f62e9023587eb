"""Requests, retries and errors, driven by hand: no socket, no sleeping."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from bebr import errors
from bebr.client import bulk, collections, frames, points, versions
from bebr.client.results import JobState
from bebr.client.steps import (
    LONGEST_PAUSE_SECONDS,
    Done,
    Flow,
    Pause,
    Request,
    backoff_seconds,
    error_of,
    json_request,
    next_step,
    retry_after_seconds,
    with_retries,
)

URL = httpx.Request("GET", "http://bebr.example:8000/v1/collections")


def answer(status: int = 200, value: Any = None, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, json=value, headers=headers, request=URL)


def drive(
    flow: Flow[Any], answers: Iterable[httpx.Response | httpx.TransportError], retries: int = 3
) -> tuple[Any, list]:
    """Run a flow against prepared answers: (its value, the requests and pauses it requested)."""
    steps, asked = with_retries(flow, retries), []
    remaining = iter(answers)
    step = next_step(steps, None)
    while not isinstance(step, Done):
        asked.append(step)
        step = next_step(steps, None if isinstance(step, Pause) else next(remaining))
    assert next(remaining, None) is None, "the flow left answers unread"
    return step.value, asked


def broken(kind: type[httpx.TransportError]) -> httpx.TransportError:
    return kind("broken", request=URL)


def test_a_request_is_sent_once_when_all_is_well():
    value, asked = drive(points.count("my docs/x"), [answer(value={"count": 7})])
    assert value == 7
    assert [(r.method, r.path, r.body) for r in asked] == [
        ("POST", "/v1/collections/my%20docs%2Fx/points/count", b"{}")
    ]


@pytest.mark.parametrize("status", [429, 503])
def test_overload_is_retried_after_the_time_that_the_service_asks_for(status: int):
    refused = answer(status, {"error": "Overloaded", "detail": "full"}, {"retry-after": "2.5"})
    value, asked = drive(points.count("c"), [refused, refused, answer(value={"count": 1})])
    assert value == 1
    assert [step.seconds for step in asked if isinstance(step, Pause)] == [2.5, 2.5]


def test_without_retry_after_the_pauses_grow():
    refused = answer(503, {"error": "StoreUnavailable", "detail": "down"})
    _, asked = drive(points.count("c"), [refused, refused, refused, answer(value={"count": 1})])
    pauses = [step.seconds for step in asked if isinstance(step, Pause)]
    assert len(pauses) == 3
    assert pauses[0] <= 0.25 < pauses[2] <= 1.0
    assert 0.125 <= backoff_seconds(0) <= 0.25


def test_no_pause_is_longer_than_the_limit():
    refused = answer(503, {"error": "NotReady", "detail": "starting"}, {"retry-after": "3600"})
    _, asked = drive(points.count("c"), [refused, answer(value={"count": 1})])
    assert asked[1] == Pause(LONGEST_PAUSE_SECONDS)


def test_after_the_last_retry_the_error_is_raised():
    refused = answer(503, {"error": "StoreUnavailable", "detail": "the store is down", "fields": {"store": "redis"}})
    with pytest.raises(errors.StoreUnavailable, match="the store is down") as raised:
        drive(points.count("c"), [refused] * 4)
    assert raised.value.fields == {"store": "redis"}


def test_errors_of_the_caller_are_not_retried():
    with pytest.raises(errors.CollectionNotFound):
        drive(points.count("c"), [answer(404, {"error": "CollectionNotFound", "detail": "no such collection"})])


@pytest.mark.parametrize("failure", [httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.ReadError, httpx.ConnectError])
def test_a_broken_connection_is_retried_where_the_request_may_be_repeated(failure):
    value, asked = drive(points.count("c"), [broken(failure), answer(value={"count": 1})])
    assert value == 1
    assert isinstance(asked[1], Pause)


def test_what_may_have_been_done_is_not_done_twice():
    with pytest.raises(errors.Unavailable, match="broke"):
        drive(collections.create_collection("c", code="4x2"), [broken(httpx.ReadError)])
    created, _ = drive(
        collections.create_collection("c", code="4x2"), [broken(httpx.ConnectError), answer(value={"name": "c"})]
    )
    assert created == {"name": "c"}


def test_what_can_be_read_only_once_is_not_sent_again():
    """A second try of a generator that was read already would send an empty body, and lose every point."""
    refused = answer(429, {"error": "Overloaded", "detail": "full"})
    with pytest.raises(errors.Overloaded):
        drive(bulk.ingest("c", ({"id": str(i)} for i in range(3))), [refused])
    ended = {"job": "j", "collection": "c", "state": "succeeded", "received": 1, "applied": 1, "rejected": 0}
    accepted = [answer(202, {"job": "j"}), answer(value=ended)]
    job, asked = drive(bulk.ingest("c", [{"id": "a"}]), [refused, *accepted])
    assert job.applied == 1
    first, second = (step for step in asked if isinstance(step, Request) and step.method == "POST")
    assert b"".join(first.body()) == b"".join(second.body()) != b""


def test_a_service_that_is_not_there_is_named():
    with pytest.raises(errors.Unavailable, match=r"cannot reach http://bebr\.example:8000; start the service"):
        drive(points.count("c"), [broken(httpx.ConnectError)] * 4)
    with pytest.raises(errors.Unavailable, match="no answer from"):
        drive(points.count("c"), [broken(httpx.ReadTimeout)] * 4)


def test_a_date_in_retry_after_is_understood():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    assert 15 < (retry_after_seconds(answer(429, headers={"retry-after": soon})) or 0) <= 20
    assert retry_after_seconds(answer(429, headers={"retry-after": "soon"})) is None
    assert retry_after_seconds(answer(429)) is None


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": "InvalidFilter", "detail": "d"}, errors.InvalidFilter),
        (400, {"error": "Unheard", "detail": "d"}, errors.InvalidRequest),
        (401, {}, errors.Unauthorized),
        (403, {}, errors.Forbidden),
        (404, {"error": "Any", "detail": "d"}, errors.NotFound),
        (409, None, errors.Conflict),
        (413, "text", errors.PayloadTooLarge),
        (418, {}, errors.InvalidRequest),
        (500, {"error": "DamagedBundle", "detail": "d"}, errors.DamagedBundle),
        (500, {"error": "annotations", "detail": "d"}, errors.BebrError),
        (502, [], errors.Unavailable),
        (507, {}, errors.InsufficientStorage),
    ],
)
def test_a_problem_becomes_the_error_that_it_names_or_that_its_status_means(status, body, kind):
    error = error_of(answer(status, body))
    assert type(error) is kind
    assert error.detail == (body["detail"] if isinstance(body, dict) and "detail" in body else error.detail)
    assert error.detail


def test_a_page_that_is_no_json_still_becomes_an_error():
    page = httpx.Response(502, html="<h1>Bad gateway</h1>", request=URL)
    assert "502" in error_of(page).detail


def test_parameters_that_are_none_are_left_out():
    assert json_request("GET", "/x", a=None, b=1, c="d") == Request("GET", "/x", {"b": "1", "c": "d"})


def report(applied: int, items: list[dict[str, Any]], **seq: int) -> httpx.Response:
    return answer(value={"applied": applied, "rejected": len(items), "items": items, "seq": seq})


def test_long_writes_go_in_batches_whose_reports_are_joined():
    wrong = {"index": 1, "id": "d", "error": "InvalidText", "detail": "empty"}
    flow = points.upsert("c", ({"id": i, "text": i} for i in "abcde"), batch_points=2, idempotency_key="k")
    written, asked = drive(flow, [report(2, [], s0=2), report(1, [wrong], s0=3, s1=1), report(1, [], s1=2)])
    assert (written.applied, written.rejected, written.seq) == (4, 1, {"s0": 3, "s1": 2})
    assert [item.index for item in written.items] == [3]
    assert [r.headers["idempotency-key"] for r in asked] == ["k-0", "k-2", "k-4"]


def test_a_write_that_fails_says_what_the_batches_before_did():
    problem = {"error": "StoreUnavailable", "detail": "away", "fields": {"items": [{"index": 0, "outcome": "unknown"}]}}
    flow = points.upsert("c", ({"id": i, "text": i} for i in "abcde"), batch_points=2)
    with pytest.raises(errors.StoreUnavailable, match="away") as raised:
        drive(flow, [report(1, [], s0=2), answer(503, problem)], retries=0)
    items = [{"index": 2, "outcome": "unknown"}]
    assert raised.value.fields == {"before": 2, "applied_before": 1, "items": items}


def test_nothing_to_write_is_no_request():
    written, asked = drive(points.upsert("c", []), [])
    assert (written.applied, asked) == (0, [])


def test_a_retried_write_keeps_its_idempotency_key():
    _, asked = drive(points.upsert("c", [{"id": "a"}]), [broken(httpx.ReadError), report(1, [])])
    first, second = (step for step in asked if isinstance(step, Request))
    assert first == second
    assert first.headers["idempotency-key"]


def test_vectors_go_in_batches_below_the_limit_of_a_body():
    flow = frames.upsert_vectors("c", [str(i) for i in range(5)], [[0.0] * 4] * 5, batch_points=3)
    written, asked = drive(flow, [report(3, []), report(2, [])])
    assert written.applied == 5
    assert [r.path for r in asked] == ["/v1/collections/c/points/vectors"] * 2


def test_a_choice_of_nothing_is_not_a_choice_of_all():
    _, asked = drive(points.delete("c", []), [answer(value={"deleted": 0})])
    assert asked[0].body == b'{"ids":[]}'


def test_a_job_that_is_paused_has_not_ended():
    def job(state: str) -> httpx.Response:
        return answer(value={"job": "j", "kind": "backfill", "state": state, "total": 9, "remaining": 4, "applied": 5})

    ended, asked = drive(bulk.wait_job("j"), [job("paused"), job("paused"), job("cancelled")])
    assert (ended.state, ended.total, ended.remaining, ended.other) == ("cancelled", 9, 4, {"kind": "backfill"})
    assert len(asked) == 5


def test_a_measurement_waits_for_its_answer():
    _, asked = drive(versions.evaluate_version("c", sample=3), [answer(value={})])
    assert asked == [json_request("POST", "/v1/collections/c/versions/evaluate", {"sample": 3}, patient=True)]


def test_waiting_for_a_job_polls_until_it_ended():
    def job(state: str) -> httpx.Response:
        return answer(value={"job": "j", "state": state, "applied": 5, "rate_per_s": 2.0, "line": 9})

    seen = []
    ended, asked = drive(bulk.wait_job("j", progress=seen.append), [job("queued"), job("running"), job("succeeded")])
    assert (ended.state, ended.applied, ended.rate_per_s, ended.other) == (JobState.SUCCEEDED, 5, 2.0, {"line": 9})
    assert [j.state for j in seen] == ["queued", "running", "succeeded"]
    assert [type(step) for step in asked] == [Request, Pause, Request, Pause, Request]
