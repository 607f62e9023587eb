"""Watches the event loop: how long it looked at no socket, because something held it up."""

import asyncio
import logging
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)
INTERVAL_SECONDS = 0.02
BUCKETS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class LoopWatch(Collector):
    """A timer that should fire every INTERVAL_SECONDS. How much later it fires is how long the loop was stopped."""

    def __init__(self, registry: CollectorRegistry, slow_seconds: float) -> None:
        """slow_seconds: what stops it for longer is logged."""
        self._slow_seconds = slow_seconds
        self._stops = Histogram(
            "bebr_loop_stopped_seconds",
            "How long the event loop could not answer anybody, in samples taken 50 times a second.",
            buckets=BUCKETS_SECONDS,
            registry=registry,
        )
        self._longest_seconds = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        registry.register(self)

    def start(self) -> None:
        self._wait(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stopped_seconds(self) -> float:
        """For how long the loop has stood still; from any thread."""
        return max(0.0, time.monotonic() - self._due) if self._timer is not None else 0.0

    def collect(self) -> Iterator[Metric]:
        longest, self._longest_seconds = self._longest_seconds, 0.0
        help = "The longest time since the last scrape for which the event loop could not answer anybody."
        yield GaugeMetricFamily("bebr_loop_stopped_max_seconds", help, longest)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        late = max(0.0, time.monotonic() - self._due)
        self._stops.observe(late)
        self._longest_seconds = max(self._longest_seconds, late)
        if late >= self._slow_seconds:
            log.warning("the event loop was stopped for %.2f s; no request was answered meanwhile", late)
        self._wait(loop)

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = time.monotonic() + INTERVAL_SECONDS
        self._timer = loop.call_later(INTERVAL_SECONDS, self._tick, loop)
