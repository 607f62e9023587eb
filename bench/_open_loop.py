"""An open loop of load: requests are sent when they are due, whether those before them were answered or not.

It runs in a process of its own, over kept-alive sockets with one request each. A latency counts from when the request
was due, so a service that makes its callers wait cannot hide it.
"""

import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

RECEIVE_BYTES = 1 << 18
GRACE_SECONDS = 10.0
"""How long answers are waited for after the last request was sent."""


@dataclass(frozen=True)
class Flood:
    """What came of it."""

    seconds: float
    """For how long requests were sent."""
    due: int
    """Requests that were due in that time."""
    latencies: dict[int, list[float]] = field(default_factory=dict)
    """Seconds from when a request was due to the end of its answer, sorted, by status; 0: never answered."""

    def count(self, *statuses: int) -> int:
        return sum(len(self.latencies.get(status, ())) for status in statuses)

    def goodput(self, within_seconds: float) -> float:
        """Answers with 200 per second that came in time."""
        return sum(latency <= within_seconds for latency in self.latencies.get(200, ())) / self.seconds

    def percentile(self, share: float, *statuses: int) -> float:
        """Seconds; nan where there was no such answer."""
        found = sorted(value for status in statuses for value in self.latencies.get(status, ()))
        return found[min(int(share * len(found)), len(found) - 1)] if found else float("nan")


class Generators:
    """Processes that send load side by side."""

    def __init__(self, count: int) -> None:
        self._pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"))
        for future in [self._pool.submit(time.sleep, 0.1) for _ in range(count)]:
            future.result()

    def start(
        self, port: int, requests: Sequence[bytes], *, rate: float, seconds: float, connections: int = 3500
    ) -> "Future[Flood]":
        """Send so many requests per second, those given in turns, over so many connections at most."""
        return self._pool.submit(_flood, port, list(requests), rate, seconds, connections)

    def close(self) -> None:
        self._pool.shutdown()


class _Connection:
    """A socket with one request under way, or none."""

    __slots__ = ("due", "missing", "received", "socket", "status")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self.received = b""
        self.missing = -1
        self.status = 0

    def send(self, data: bytes, due: float) -> None:
        self.due, self.received, self.missing, self.status = due, b"", -1, 0
        self.socket.sendall(data)

    def receive(self) -> bool:
        """Take what is there; True when the answer is complete."""
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionError("the service closed a connection")
        if self.missing >= 0:
            self.missing -= len(data)
            return self.missing <= 0
        self.received += data
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = self.received[:end].lower()
        self.status = int(head[9:12])
        at = head.index(b"content-length:") + len(b"content-length:")
        self.missing = int(head[at:].partition(b"\r\n")[0]) - (len(self.received) - end - 4)
        return self.missing <= 0


def _flood(port: int, requests: list[bytes], rate: float, seconds: float, connections: int) -> Flood:
    os.nice(5)  # on few cores the load must not take the service's time
    selector = selectors.DefaultSelector()
    latencies: dict[int, list[float]] = {}
    # opened before the load begins: a full queue of connections would make a caller wait for a second and more
    free = deque(_Connection(port) for _ in range(min(connections, max(16, int(rate * seconds)))))
    for connection in free:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    busy = 0
    total = int(rate * seconds)
    waiting: deque[float] = deque()
    """When requests were due that found no free connection."""
    sent, made = 0, 0
    begun = time.perf_counter()
    while True:
        now = time.perf_counter()
        while made < total and begun + made / rate <= now:
            waiting.append(begun + made / rate)
            made += 1
        while waiting and free:
            connection = free.popleft()  # in turns: one that is never used is closed by the service
            connection.send(requests[sent % len(requests)], waiting.popleft())
            sent += 1
            busy += 1
        if made >= total and (not busy or now > begun + seconds + GRACE_SECONDS):
            break
        pause = max(0.0, begun + made / rate - time.perf_counter()) if made < total else 0.1
        for key, _ in selector.select(pause):
            connection = key.data
            if connection.receive():
                latencies.setdefault(connection.status, []).append(time.perf_counter() - connection.due)
                free.append(connection)
                busy -= 1
    for key in selector.get_map().values():
        key.data.socket.close()
    selector.close()
    if lost := total - sum(map(len, latencies.values())):
        latencies[0] = [float("inf")] * lost
    return Flood(seconds, total, {status: sorted(found) for status, found in latencies.items()})
