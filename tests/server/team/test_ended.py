"""What workers have counted is never forgotten: plain sums of what each said last are the oracle."""

from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric

from bebr.server.team.ended import ENDED, SAID, Ended
from bebr.server.team.whole import read


def said(requests: int) -> list[Metric]:
    registry = CollectorRegistry()
    Counter("bebr_http_requests", "Requests.", ["route"], registry=registry).labels("/a").inc(requests)
    histogram = Histogram("bebr_http_request_seconds", "Seconds.", buckets=(1,), registry=registry)
    for _ in range(requests):
        histogram.observe(0.5)
    Gauge("bebr_bodies_in_flight_bytes", "Bytes.", registry=registry).set(7)
    Counter("process_cpu_seconds", "Time.", registry=registry).inc(9)
    return read(generate_latest(registry).decode())


def sums(metrics: list[Metric]) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric in metrics:
        for sample in metric.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return {name: value for name, value in found.items() if not name.endswith("_created")}


def expected(count: float) -> dict[str, float]:
    return {
        "bebr_http_requests_total": count,
        "bebr_http_request_seconds_bucket": 2 * count,
        "bebr_http_request_seconds_count": count,
        "bebr_http_request_seconds_sum": count / 2,
    }


def test_counts_of_those_that_do_not_answer_are_kept_and_added_once(tmp_path: Path):
    ended = Ended(tmp_path)
    assert sums(ended.with_ended({"0-1": said(1), "1-2": said(10), "2-3": said(100)})) == {}
    assert sums(ended.with_ended({"0-1": said(2), "1-2": [], "2-3": said(200)})) == expected(10)
    assert sums(ended.with_ended({"0-1": said(2), "1-2": said(20), "2-3": None})) == expected(200)
    assert sums(ended.with_ended({"0-1": said(2), "1-2": None})) == expected(220)
    ended.note("1-4", said(1000))
    assert sums(Ended(tmp_path).with_ended({"0-5": said(1)})) == expected(1222), "of the primary that was, too"
    assert sums(Ended(tmp_path).with_ended({"0-5": said(1)})) == expected(1222)
    assert sorted(path.name for path in tmp_path.iterdir()) == [ENDED, f"{SAID}0-5"]


def test_what_was_added_before_a_crash_is_not_added_again(tmp_path: Path):
    Ended(tmp_path).note("1-2", said(10))
    left = (tmp_path / f"{SAID}1-2").read_bytes()
    assert sums(Ended(tmp_path).with_ended({})) == expected(10)
    (tmp_path / f"{SAID}1-2").write_bytes(left)
    assert sums(Ended(tmp_path).with_ended({})) == expected(10)


def checks(**searches: int) -> list[Metric]:
    registry = CollectorRegistry()
    counter = Counter("bebr_collection_coverage_checks", "Checks.", ["collection"], registry=registry)
    for name, count in searches.items():
        counter.labels(name).inc(count)
    return read(generate_latest(registry).decode())


def test_what_was_counted_of_collections_that_are_gone_is_forgotten(tmp_path: Path):
    ended = Ended(tmp_path)
    ended.note("1-2", checks(kept=3, gone=4))

    def of_collections(found: list[Metric]) -> dict[str, float]:
        return {sample.labels["collection"]: sample.value for metric in found for sample in metric.samples}

    assert of_collections(ended.with_ended({})) == {"kept": 3, "gone": 4}, "where nobody knows which there are"
    assert of_collections(ended.with_ended({}, {"kept"})) == {"kept": 3}
    ended.note("1-3", checks(kept=10))
    assert of_collections(ended.with_ended({}, {"kept", "gone"})) == {"kept": 13}, "also where one has its name again"
