"""How long after its acknowledgment a write is visible to the other processes of a store.

    python -m bench.follow [--writes 500]

Two workers of one machine, on SQLite and on Valkey: a point is written at worker 0, and worker 1 is asked for it once;
it must say that it is there. The time is from the acknowledgment to that answer, beside that of the same question when
nothing was written. Two services that share a Valkey: the other one is asked over and over, from the acknowledgment
until it says so. They are asked how many points have that id, which their views answer and not the store.
"""

import argparse
import http.client
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
from bench.http import print_table, running

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parents[1])]

from tests.cli.server.workers.running import running_workers  # noqa: E402
from tests.servers import ServerKind, running_server  # noqa: E402

COLLECTION = "/v1/collections/follow"
WARM_UP = 20

Ask = Callable[[str, str, object], dict[str, object]]
"""Method, path and body; the answer."""


def asker(connection: http.client.HTTPConnection) -> Ask:
    def ask(method: str, path: str, body: object) -> dict[str, object]:
        connection.request(method, path, json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(f"{method} {path} answered {response.status}: {content[:500]!r}")
        answer: dict[str, object] = json.loads(content)
        return answer

    return ask


def count(ask: Ask, name: str) -> object:
    return ask("POST", f"{COLLECTION}/points/count", {"filter": {"must": [{"has_id": [name]}]}})["count"]


def delays(writer: Ask, reader: Ask, writes: int, *, promised: bool) -> tuple[list[float], list[float]]:
    """Seconds from acknowledgments until the reader says that the point is there, and of its answers in between.

    promised: the first answer must say so.
    """
    visible, idle = [], []
    for number in range(writes + WARM_UP):
        name = f"p{number}"
        writer("POST", f"{COLLECTION}/points", {"points": [{"id": name, "code_b64": "qg=="}]})
        acknowledged = time.perf_counter()
        while count(reader, name) != 1:
            if promised:
                raise RuntimeError(f"{name} was acknowledged, and is not there")
        visible.append(time.perf_counter() - acknowledged)
        began = time.perf_counter()
        count(reader, name)
        idle.append(time.perf_counter() - began)
    return visible[WARM_UP:], idle[WARM_UP:]


def of_workers(folder: Path, writes: int, **variables: str) -> tuple[list[float], list[float]]:
    with running_workers(folder, 2, **variables) as workers:
        first, second = workers.connection(0), workers.connection(1)
        try:
            asker(first)("PUT", COLLECTION, {"code": "8x1", "shards": 1})
            return delays(asker(first), asker(second), writes, promised=True)
        finally:
            first.close()
            second.close()


def of_services(folder: Path, writes: int, url: str) -> tuple[list[float], list[float]]:
    settings = {"redis_url": url, "shared_store": "true"}
    with running(folder / "a", **settings) as one, running(folder / "b", **settings) as other:
        connections = [http.client.HTTPConnection("127.0.0.1", service.port) for service in (one, other)]
        try:
            asker(connections[0])("PUT", COLLECTION, {"code": "8x1", "shards": 1})
            while httpx.get(f"http://127.0.0.1:{other.port}{COLLECTION}").status_code != 200:
                time.sleep(0.05)
            return delays(*map(asker, connections), writes, promised=False)  # type: ignore[misc]
        finally:
            for connection in connections:
                connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writes", type=int, default=500)
    writes = parser.parse_args().writes
    rows = [["processes", "acknowledged to visible, p50 / p99", "an answer without a write, p50 / p99"]]

    def add(name: str, measured: tuple[list[float], list[float]]) -> None:
        rows.append([name, *(f"{p50:.2f} / {p99:.2f} ms" for p50, p99 in map(_percentiles, measured))])

    with TemporaryDirectory() as folder:
        add("two workers, SQLite", of_workers(Path(folder), writes))
    with TemporaryDirectory() as folder, running_server(ServerKind.VALKEY) as server:
        add("two workers, Valkey", of_workers(Path(folder), writes, BEBR_REDIS_URL=server.url))
    with TemporaryDirectory() as folder, running_server(ServerKind.VALKEY) as server:
        add("two services, Valkey", of_services(Path(folder), writes, server.url))
    print_table(rows)


def _percentiles(seconds: list[float]) -> list[float]:
    return (np.percentile(seconds, [50, 99]) * 1e3).tolist()


if __name__ == "__main__":
    main()
