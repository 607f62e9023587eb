"""What goes on while processes are killed: writes, and reads of what was just written on connections of their own."""

import base64
import json
import random
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException
from typing import Any

import httpx
from tests.waiting import PATIENCE_SECONDS

from faults.service import CODE_BYTES, State, Writer, new_point, state_of

READS = 4


class RoundWriter(Writer):
    """Writes on one connection as long as that lasts. failed: how often each kind of answer was none."""

    def __init__(self, url: str, number: int, possible: dict[str, set[State]]) -> None:
        self.done = threading.Event()
        self.failed: Counter[str] = Counter()
        super().__init__(url, number, self.done, possible)

    def _send(self, *args: Any, **options: Any) -> httpx.Response | None:
        answer = super()._send(*args, **options)
        if answer is None:
            self.failed["connection"] += 1
        elif answer.status_code != 200:
            self.failed[kind_of(answer.status_code, answer.content)] += 1
        return answer


class Prober(threading.Thread):
    """Writes a point, and reads it by connections of their own, which any worker may take.

    stale: what a read said otherwise than what was acknowledged before it.
    """

    def __init__(self, url: str, name: str, possible: dict[str, set[State]]) -> None:
        super().__init__(daemon=True)
        address = httpx.URL(url)
        self._host, self._port = address.host, address.port
        self._name = name
        self._possible = possible
        self._random = random.Random(name)
        self.done = threading.Event()
        self.acknowledged = 0
        self.failed: Counter[str] = Counter()
        self.stale: list[str] = []

    def run(self) -> None:
        while not self.done.is_set():
            point = new_point(f"{self._name}-{self._random.randrange(60)}", self._random)
            self._step(point["id"], point, state_of(point))
            if self._random.random() < 0.3:
                self._step(point["id"], point, None)

    def _step(self, point_id: str, point: dict[str, Any], state: State) -> None:
        """Have the point, or where state is None not have it any more, and read it."""
        if state is None:
            written = self._ask("points/delete", {"ids": [point_id]})
        else:
            written = self._ask("points", {"points": [point]})
        if written is None:
            self._possible[point_id] = self._possible.get(point_id, {None}) | {state}
            time.sleep(0.02)
            return
        self._possible[point_id] = {state}
        self.acknowledged += 1
        for _ in range(READS):
            found = self._ask("search", {"code_b64": point["code_b64"], "limit": 3, "scorer": "hamming"})
            if found is not None:
                hits = [hit for hit in found["hits"] if hit["id"] == point_id and hit["distance"] == 0]
                said = (point["code_b64"], hits[0]["metadata"]["n"]) if hits else None
                self._hold(point_id, said, state, "search")
        got = self._ask("points/get", {"ids": [point_id], "with_code": True})
        if got is not None:
            records = [(base64.b64decode(one["code_b64"]), one["metadata"]["n"]) for one in got["points"]]
            said = (base64.b64encode(records[0][0][:CODE_BYTES]).decode(), records[0][1]) if records else None
            self._hold(point_id, said, state, "points/get")

    def _hold(self, point_id: str, said: State, state: State, how: str) -> None:
        if said != state:
            self.stale.append(f"{point_id} is {said} by {how}, was acknowledged as {state}")

    def _ask(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to one request on a new connection, or None where it failed."""
        connection = HTTPConnection(self._host, self._port, timeout=PATIENCE_SECONDS)
        try:
            headers = {"content-type": "application/json", "connection": "close"}
            connection.request("POST", f"/v1/collections/docs/{path}", json.dumps(body), headers)
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, HTTPException):
            self.failed["connection"] += 1
            return None
        finally:
            connection.close()
        if answer.status != 200:
            self.failed[kind_of(answer.status, said)] += 1
            return None
        return json.loads(said)


def kind_of(status: int, body: bytes) -> str:
    try:
        return f"{status} {json.loads(body)['error']}"
    except (ValueError, KeyError, TypeError):
        return str(status)
