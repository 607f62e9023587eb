"""A load generator that costs little itself: prebuilt requests over kept-alive sockets, in a process of its own."""

import selectors
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

RECEIVE_BYTES = 1 << 18


@dataclass(frozen=True)
class Load:
    """What came of it. latencies: seconds of every request, sorted."""

    seconds: float
    latencies: list[float]

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        return self.latencies[min(int(share * len(self.latencies)), len(self.latencies) - 1)]


def request(method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
    """The bytes of one HTTP/1.1 request."""
    headers = f"host: bench\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}"
    return f"{method} {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode() + body


def generate(port: int, requests: Sequence[bytes], *, connections: int, seconds: float, most: int = 1 << 60) -> Load:
    """Send `requests` over and over until `seconds` have passed or `most` were answered. Any status but 200 raises."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_generate, port, requests, connections, seconds, most).result()


class _Connection:
    """One socket with one request under way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self._received = b""
        self._missing = -1

    def send(self, data: bytes) -> None:
        self.sent_at, self._received, self._missing = time.perf_counter(), b"", -1
        self.socket.sendall(data)

    def receive(self) -> bool:
        """Take what is there; True when the answer is complete."""
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionError("the service closed a connection")
        if self._missing >= 0:
            self._missing -= len(data)
            return self._missing <= 0
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        if not self._received.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(self._received[:2000].decode(errors="replace"))
        at = self._received.lower().index(b"content-length:") + len(b"content-length:")
        size = int(self._received[at : self._received.index(b"\r\n", at)])
        self._missing = size - (len(self._received) - end - 4)
        return self._missing <= 0


def _generate(port: int, requests: Sequence[bytes], connections: int, seconds: float, most: int) -> Load:
    selector = selectors.DefaultSelector()
    latencies: list[float] = []
    sent = 0
    started = time.perf_counter()
    for _ in range(min(connections, most)):
        connection = _Connection(port)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(requests[sent % len(requests)])
        sent += 1
    waiting = sent
    while waiting:
        for key, _ in selector.select():
            connection = key.data
            if not connection.receive():
                continue
            now = time.perf_counter()
            latencies.append(now - connection.sent_at)
            if now - started < seconds and sent < most:
                connection.send(requests[sent % len(requests)])
                sent += 1
            else:
                selector.unregister(connection.socket)
                connection.socket.close()
                waiting -= 1
    selector.close()
    return Load(time.perf_counter() - started, sorted(latencies))
