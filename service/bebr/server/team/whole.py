"""The metrics of all workers as those of one service.

What counts requests is added up over the workers. What is known of collections and jobs is the primary's, which has
them whole. What is said of a process has a label with its worker.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

WORKER = "worker"
OF_PROCESSES = ("process_", "python_")
SUMS = frozenset(
    {
        "bebr_http_requests",
        "bebr_http_request_seconds",
        "bebr_errors",
        "bebr_lane_backlog_seconds",
        "bebr_lane_requests",
        "bebr_lane_refused",
        "bebr_lane_dropped",
        "bebr_loop_stopped_seconds",
        "bebr_bodies_in_flight_bytes",
        "bebr_collection_coverage_checks",
        "bebr_collection_coverage_skipped",
    }
)
LARGEST = frozenset({"bebr_loop_stopped_max_seconds"})
COLLECTIONS = "bebr_collection_points"
"""Has a sample of each collection."""
CREATED = "_created"
"""Ends the names of samples that say when something was counted first."""
COUNTING = frozenset({"counter", "histogram"})
"""Types of what only grows."""


def read(text: str) -> list[Metric]:
    """What a worker says. Takes long: once for each."""
    return list(text_string_to_metric_families(text))


def collections_of(metrics: Iterable[Metric]) -> frozenset[str] | None:
    """The collections that there are. metrics: of the primary. None: it knows of none, and may not know them yet."""
    samples = [sample for metric in metrics if metric.name == COLLECTIONS for sample in metric.samples]
    return frozenset(sample.labels["collection"] for sample in samples) or None


def told(metrics: Iterable[Metric]) -> list[Metric]:
    """What another worker takes of these; it need not read the rest, most of which is said of collections."""
    wanted = SUMS | LARGEST
    return [metric for metric in metrics if metric.name in wanted or metric.name.startswith(OF_PROCESSES)]


def metrics_of_all(
    own: Sequence[Metric], number: int, others: Mapping[int, Sequence[Metric]], ended: Sequence[Metric] = ()
) -> list[Metric]:
    """own: of this worker, the primary. others: what the other workers say, by number. ended: what workers that have
    ended had counted."""
    found = {metric.name: _labelled(metric, number) for metric in own}
    for other, said in others.items():
        for metric in said:
            if metric.name.startswith(OF_PROCESSES):
                into = found.setdefault(metric.name, _empty(metric))
                if all(sample.labels.get(WORKER) != str(other) for sample in into.samples):  # else one has replaced it
                    into.samples += _labelled(metric, other).samples
            elif metric.name in SUMS or metric.name in LARGEST:
                into = found.setdefault(metric.name, _empty(metric))
                into.samples = _joined(into.samples, metric.samples, max if metric.name in LARGEST else sum)
    for metric in ended:
        into = found.setdefault(metric.name, _empty(metric))
        into.samples = _joined(into.samples, metric.samples, sum)
    return list(found.values())


def counted(metrics: Iterable[Metric], collections: Set[str] | None = None) -> list[Metric]:
    """What several workers have counted, of that which is added up, as one. collections: see `Ended.with_ended`."""
    found: dict[str, Metric] = {}
    for metric in metrics:
        if metric.name in SUMS and metric.type in COUNTING:
            into = found.setdefault(metric.name, _empty(metric))
            kept = [sample for sample in metric.samples if not sample.name.endswith(CREATED)]
            if collections is not None:
                kept = [one for one in kept if one.labels.get("collection") in {None, *collections}]
            into.samples = _joined(into.samples, kept, sum)
    return list(found.values())


def _labelled(metric: Metric, number: int) -> Metric:
    """With the worker, where it is of a process."""
    if not metric.name.startswith(OF_PROCESSES):
        return metric
    one = _empty(metric)
    one.samples = [sample._replace(labels={**sample.labels, WORKER: str(number)}) for sample in metric.samples]
    return one


def _empty(metric: Metric) -> Metric:
    return Metric(metric.name, metric.documentation, metric.type, metric.unit)


def _joined(samples: Iterable[Any], more: Iterable[Any], join: Any) -> list[Any]:
    """Values of the same name and labels as one, in the order in which they came first."""
    values: dict[tuple[str, frozenset[tuple[str, str]]], list[Any]] = {}
    for sample in (*samples, *more):
        values.setdefault((sample.name, frozenset(sample.labels.items())), []).append(sample)
    return [same[0]._replace(value=join([one.value for one in same])) for same in values.values()]
