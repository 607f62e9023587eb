"""Prometheus metrics of HTTP requests, and gauges of collections and jobs that are computed when they are read.

One registry per app, so that two apps in one process never mix their numbers.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    Counter,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from starlette.types import Scope

from bebr.engine import Engine
from bebr.engine.statuses import CollectionStatus
from bebr.errors import NotReady
from bebr.jobs import JobQueue, JobState
from bebr.server.bodies.body import BodyBudget
from bebr.server.problems import ERROR
from bebr.server.team.whole import metrics_of_all, told

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
FIRST_FAILURE = 400
_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class Answers(Collector):
    """Answers by method, route and status, and their seconds by method and route. Plain numbers: a count is made for
    every request, and the library's own take longer than all else that is counted there."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], int] = {}
        self._seconds: dict[tuple[str, str], list[float]] = {}
        """The sum, then how many there are up to each bound, and beyond them."""

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        key = method, route, status
        self._counts[key] = self._counts.get(key, 0) + 1
        seen = self._seconds.get((method, route))
        if seen is None:
            seen = self._seconds[method, route] = [0.0] * (len(BUCKETS_SECONDS) + 2)
        seen[0] += seconds
        seen[bisect_left(BUCKETS_SECONDS, seconds) + 1] += 1

    def collect(self) -> Iterator[Metric]:
        help = "Requests by status of the answer; 499: the caller disconnected first."
        requests = CounterMetricFamily("bebr_http_requests", help, labels=("method", "route", "status"))
        for (method, route, status), count in list(self._counts.items()):
            requests.add_metric((method, route, str(status)), count)
        yield requests
        help = "Seconds from the request to the end of the answer."
        histogram = HistogramMetricFamily("bebr_http_request_seconds", help, labels=("method", "route"))
        bounds = [*map(floatToGoString, BUCKETS_SECONDS), "+Inf"]
        for labels, (total, *counts) in list(self._seconds.items()):
            histogram.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
        yield histogram


class HttpMetrics:
    """Requests and seconds by route. All unknown paths count as one route, so the number of labels stays bounded."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._answers = Answers()
        self.registry.register(self._answers)
        self._errors = Counter(
            "bebr_errors",
            "Requests that were answered with an error, and connections that were refused, by the error.",
            ("error",),
            registry=self.registry,
        )

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one answer."""
        method = scope["method"]  # a caller can invent methods without end
        route = getattr(scope.get("route"), "path_format", "unknown")
        self._answers.observe(method if method in _KNOWN_METHODS else "other", route, status, seconds)
        if status >= FIRST_FAILURE and (error := scope.get(ERROR)) is not None:
            self.count_error(error)

    def count_error(self, name: str, count: int = 1) -> None:
        """Count an error by its class. `observe` does so for requests that reach the app."""
        self._errors.labels(name).inc(count)

    def collected(self) -> "Collected":
        """All values as they are now."""
        return Collected(list(self.registry.collect()))


class Collected:
    """Values that change no more, so that any thread can write them down: that takes the longer part of the time."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self.metrics)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self)

    def render_told(self) -> bytes:
        """The same, but only what other workers take of it."""
        return Collected(told(self.metrics)).render()

    def render_all(self, number: int, others: Mapping[int, Sequence[Metric]], ended: Sequence[Metric] = ()) -> bytes:
        """The same for several workers, of which this one has that number. others: what the others say, by number.
        ended: what those had counted that have ended."""
        return Collected(metrics_of_all(self.metrics, number, others, ended)).render()


class StateGauges(Collector):
    """Points and bytes of every collection, and jobs by state, read at scrape time."""

    def __init__(self, engine: Engine, jobs: JobQueue, bodies: BodyBudget) -> None:
        self._engine = engine
        self._bodies = bodies
        self._jobs = jobs

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("bebr_ready", "1 when /readyz says ready.", float(self._engine.readiness().ready))
        help = "Services that share the store; 0 where this one has it to itself."
        yield GaugeMetricFamily("bebr_store_members", help, float(len(self._engine.list_members())))
        cause = self._engine.writes_refused_because()
        low = [(name, float(name == cause)) for name in ("disk", "memory")]
        yield _gauge("bebr_writes_refused", "1 while writes are refused because this is low.", "cause", low)
        try:
            found = self._engine.list_collections()
        except NotReady:
            found = []
        points = [(collection.name, sum(collection.points.values())) for collection in found]
        yield _gauge("bebr_collection_points", "Points of a collection.", "collection", points)
        scanned = [(collection.name, collection.memory_bytes) for collection in found]
        help = "Bytes of codes and gains that a search without a filter scans."
        yield _gauge("bebr_collection_memory_bytes", help, "collection", scanned)
        damaged = [(collection.name, float(collection.damage is not None)) for collection in found]
        help = "1 where a collection is damaged and cannot be used."
        yield _gauge("bebr_collection_damaged", help, "collection", damaged)
        points = [(collection.name, collection.damaged_points) for collection in found]
        help = "Points that were found damaged in the store."
        yield _gauge("bebr_collection_damaged_points", help, "collection", points)
        rebuilding = [(collection.name, float(collection.rebuilding)) for collection in found]
        yield _gauge("bebr_collection_rebuilding", "Shards that are being rebuilt.", "collection", rebuilding)
        for name, help, field in (
            ("bebr_collection_rebuilds", "Rebuilds of shards from the store.", "rebuilds"),
            ("bebr_collection_losses", "Times that the store had lost what it had acknowledged.", "losses"),
        ):
            family = CounterMetricFamily(name, help, labels=["collection"])
            for collection in found:
                family.add_metric([collection.name], getattr(collection, field))
            yield family
        behind = [(collection.name, float(collection.behind)) for collection in found]
        help = "Operations of the store that shards have still to apply, at most, while they catch up."
        yield _gauge("bebr_collection_behind_operations", help, "collection", behind)
        commits = SummaryMetricFamily("bebr_store_commit_seconds", "Commits to the store.", labels=["collection"])
        for collection in found:
            commits.add_metric([collection.name], collection.commits, collection.commit_seconds)
        yield commits
        files = [(collection.name, collection.damaged_files) for collection in found]
        help = "How often a damaged segment file was found and made anew, since the start."
        yield _gauge("bebr_collection_damaged_files", help, "collection", files)
        buffered = [(collection.name, collection.fit.collected) for collection in found if collection.fit is not None]
        help = "Points that are kept as embeddings until the collection's fit."
        yield _gauge("bebr_collection_buffered_points", help, "collection", buffered)
        yield from _quality(found)
        yield from _lists(found)
        yield from self._lanes()
        help = "Bytes of large request bodies that are held, which max_bytes_in_flight bounds."
        yield GaugeMetricFamily("bebr_bodies_in_flight_bytes", help, float(self._bodies.held_bytes))
        counts = self._jobs.states()
        states = [(state, counts[state]) for state in JobState]
        yield _gauge("bebr_jobs", "Jobs that the service remembers.", "state", states)

    def _lanes(self) -> Iterator[Metric]:
        lanes = self._engine.admission.lanes
        help = "About how many seconds of work wait or are under way, by kind of work."
        yield _gauge("bebr_lane_backlog_seconds", help, "lane", [(lane.name, lane.backlog_seconds) for lane in lanes])
        help = "Requests that wait or are under way, by kind of work."
        yield _gauge("bebr_lane_requests", help, "lane", [(lane.name, lane.requests) for lane in lanes])
        refused = CounterMetricFamily(
            "bebr_lane_refused", "Requests refused on arrival, by kind of work.", labels=["lane"]
        )
        help = "Requests dropped before they were done: their callers had left, or their time was over."
        dropped = CounterMetricFamily("bebr_lane_dropped", help, labels=["lane"])
        for lane in lanes:
            refused.add_metric([lane.name], lane.refused)
            dropped.add_metric([lane.name], lane.dropped)
        yield from (refused, dropped)


def _quality(found: Sequence[CollectionStatus]) -> Iterator[Metric]:
    """What searches find."""
    checked = [(collection.name, collection.coverage) for collection in found if collection.coverage is not None]
    shares = [(name, coverage.share) for name, coverage in checked if coverage.share is not None]
    help = "Share of the best hits without shortcuts that the last checked searches found."
    yield _gauge("bebr_collection_coverage", help, "collection", shares)
    help = "Share of what is found without a shortcut that they found with it."
    of = GaugeMetricFamily("bebr_collection_shortcut_coverage", help, labels=["collection", "shortcut"])
    for name, coverage in checked:
        for shortcut, share in coverage.of.items():
            of.add_metric([name, shortcut], share)
    yield of
    for metric, help, field in (
        ("bebr_collection_coverage_checks", "Searches that were answered once more without shortcuts.", "searches"),
        ("bebr_collection_coverage_skipped", "Searches that were to be checked so and were not.", "skipped"),
    ):
        family = CounterMetricFamily(metric, help, labels=["collection"])
        for name, coverage in checked:
            family.add_metric([name], getattr(coverage, field))
        yield family
    fits = [(collection.name, collection.fit) for collection in found if collection.fit is not None]
    recalls = [(name, fit.recall_at_10) for name, fit in fits if fit.recall_at_10 is not None]
    help = "Share of the 10 nearest by float cosine that the scan codes of a collection's fit find, as measured last."
    yield _gauge("bebr_collection_fit_recall", help, "collection", recalls)
    drifts = [(name, fit.drift) for name, fit in fits if fit.drift is not None]
    help = "How much further codes are from their embeddings than at the collection's fit, as a share of that."
    yield _gauge("bebr_collection_fit_drift", help, "collection", drifts)


def _lists(found: Sequence[CollectionStatus]) -> Iterator[Metric]:
    """Lists of codes, of each code version that has some, or will."""
    labels = ["collection", "version"]
    statuses = [((one.name, version), lists) for one in found for version, lists in one.lists.items()]
    help = "Points in lists of the newest centroids, in lists of older ones, and in none."
    points = GaugeMetricFamily("bebr_collection_list_points", help, labels=[*labels, "lists"])
    for names, lists in statuses:
        for kind, count in (("current", lists.current), ("older", lists.older), ("none", lists.without)):
            points.add_metric([*names, kind], count)
    yield points
    for metric, help, field in (
        ("progress", "Share that is done of making centroids, or of sorting codes by them.", "progress"),
        ("generation", "Number of the newest centroids; it grows as they are made anew.", "generation"),
        ("clustering_seconds", "How long it took to make the newest centroids.", "seconds"),
        ("recall", "Share of the exact hits that searches by lists were measured to find.", "recall"),
        (
            "delta",
            "By how much the score of a centroid may be below that of the last hit for its list to be read.",
            "delta",
        ),
    ):
        family = GaugeMetricFamily(f"bebr_collection_list_{metric}", help, labels=labels)
        for names, lists in statuses:
            if (value := getattr(lists, field)) is not None:
                family.add_metric(names, value)
        yield family


def _gauge(name: str, help: str, label: str, values: Iterable[tuple[str, float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help, labels=[label])
    for label_value, value in values:
        family.add_metric([label_value], value)
    return family
