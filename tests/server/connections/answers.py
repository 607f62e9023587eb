"""Reading answers off a connection, one by one: several may come in one piece, and one in several."""

import re
import socket

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")
_BODILESS = re.compile(rb"HTTP/1.1 (1\d\d|204|304) ")


class Answers:
    """What a service answers on one connection. It keeps what came behind the answer that was read last."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._came = b""

    def read(self) -> tuple[bytes, bytes]:
        """Head and body of the next answer. A connection that ends before it fails the test."""
        head = self._take(self._end_of_head())
        found = _LENGTH.search(head)
        if _BODILESS.match(head):
            return head, b""
        assert found is not None, head
        return head, self._take(int(found[1]))

    def _end_of_head(self) -> int:
        while (end := self._came.find(b"\r\n\r\n")) < 0:
            self._wait()
        return end + 4

    def _take(self, size: int) -> bytes:
        while len(self._came) < size:
            self._wait()
        taken, self._came = self._came[:size], self._came[size:]
        return taken

    def _wait(self) -> None:
        chunk = self._socket.recv(1 << 16)
        assert chunk, f"the connection ended after {self._came!r}"
        self._came += chunk
