"""Metrics of several workers as those of one: what each says alone is the oracle."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bebr.server.metrics import Collected
from bebr.server.team.whole import read


def said(requests: dict[str, int], seconds: list[float], longest: float, cpu: float, points: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    counter = Counter("bebr_http_requests", "Requests.", ["route"], registry=registry)
    for route, count in requests.items():
        counter.labels(route).inc(count)
    histogram = Histogram("bebr_http_request_seconds", "Seconds.", buckets=(1, 2), registry=registry)
    for value in seconds:
        histogram.observe(value)
    Gauge("bebr_loop_stopped_max_seconds", "Longest.", registry=registry).set(longest)
    Counter("process_cpu_seconds", "Time.", registry=registry).inc(cpu)
    Gauge("bebr_collection_points", "Points.", registry=registry).set(points)
    return registry


def test_requests_are_added_up_and_collections_are_the_primarys():
    own, other = said({"/a": 1, "/b": 2}, [0.5], 0.1, 3.0, 7), said({"/b": 5, "/c": 1}, [0.5, 1.5, 9], 0.4, 4.0, 6)
    text = Collected(list(own.collect())).render_all(0, {1: read(generate_latest(other).decode()), 2: []}).decode()
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }
    assert values == {
        ("bebr_http_requests_total", "/a"): 1,
        ("bebr_http_requests_total", "/b"): 7,
        ("bebr_http_requests_total", "/c"): 1,
        ("bebr_http_request_seconds_bucket", "1.0"): 2,
        ("bebr_http_request_seconds_bucket", "2.0"): 3,
        ("bebr_http_request_seconds_bucket", "+Inf"): 4,
        ("bebr_http_request_seconds_count",): 4,
        ("bebr_http_request_seconds_sum",): 11.5,
        ("bebr_loop_stopped_max_seconds",): 0.4,
        ("process_cpu_seconds_total", "0"): 3.0,
        ("process_cpu_seconds_total", "1"): 4.0,
        ("bebr_collection_points",): 7,
    }


def test_what_workers_tell_each_other_is_all_that_is_taken_and_says_nothing_of_collections():
    own, other = said({"/a": 1}, [0.5], 0.1, 3.0, 7), said({"/b": 5}, [1.5, 9], 0.4, 4.0, 6)
    told = Collected(list(other.collect())).render_told().decode()
    assert "bebr_collection_points" not in told
    whole, part = (
        Collected(list(own.collect())).render_all(0, {1: read(text)})
        for text in (generate_latest(other).decode(), told)
    )
    assert part == whole
