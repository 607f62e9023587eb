"""Several processes behave as one service: whichever of them is asked, and whichever of them dies."""

import itertools
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
from tests.cli.server.workers.running import BEBR, Workers, is_read, running_workers
from tests.faults.service import free_port
from tests.servers import ServerKind, running_server
from tests.waiting import PATIENCE_SECONDS, wait_until

from bebr.cli.server.workers.supervisor import still_seconds
from bebr.cli.server.workers.worker import BEAT_SECONDS
from bebr.client import Client
from bebr.config import Settings
from bebr.errors import BebrError

COUNT = 3
PROBE_PORT = free_port()


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    folder = tmp_path_factory.mktemp("workers")
    with running_workers(folder, COUNT, BEBR_PROBE_PORT=str(PROBE_PORT)) as running:
        yield running


def ask(workers: Workers, number: int, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    connection = workers.connection(number)
    try:
        headers = {} if body is None else {"content-type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("turns", [*itertools.permutations(range(COUNT))])
def test_what_one_worker_acknowledged_every_other_has_at_once(workers: Workers, turns: tuple[int, ...]):
    name = "docs" + "".join(map(str, turns))
    first, second, third = turns
    assert ask(workers, first, "PUT", f"/v1/collections/{name}", {"code": "8x1"})[0] == 200
    points = {"points": [{"id": f"p{n}", "code_b64": "qg=="} for n in range(4)]}
    assert ask(workers, second, "POST", f"/v1/collections/{name}/points", points)[0] == 200
    status, found = ask(workers, third, "POST", f"/v1/collections/{name}/search", {"code_b64": "qg==", "limit": 9})
    assert (status, [hit["id"] for hit in json.loads(found)["hits"]]) == (200, ["p0", "p1", "p2", "p3"])
    assert ask(workers, third, "DELETE", f"/v1/collections/{name}")[0] == 200
    assert [ask(workers, number, "GET", f"/v1/collections/{name}")[0] for number in turns] == [404, 404, 404]


REQUESTS = [
    ("GET", "/readyz", {}, None),
    ("GET", "/openapi.json", {}, None),
    ("GET", "/openapi.json", {"accept-encoding": "gzip"}, None),
    ("HEAD", "/v1/collections", {}, None),
    ("GET", "/v1/collections?no=1", {}, None),
    ("GET", "/nothing%20here?a=%2F", {}, None),
    ("DELETE", "/v1/collections", {}, None),
    ("PUT", "/v1/collections/same", {"content-type": "application/json"}, b'{"code":"8x1"'),
    ("PUT", "/v1/collections/same", {"content-type": "text/plain"}, b"{}"),
    ("POST", "/v1/collections/none/points", {"content-type": "application/json"}, b'{"points":[]}'),
    ("GET", "/v1/collections", {"host": "evil.example.com"}, None),
    ("GET", "/v1/collections", {"x-timeout-ms": "x"}, None),
    ("GET", "/docs", {}, None),
]
OWN_HEADERS = ("date", "x-request-id")
"""Headers that differ from answer to answer."""


def test_a_worker_takes_over_what_others_changed_of_collections(workers: Workers):
    """It answers reads itself: an alias that was moved, a collection that was made anew, are what the primary says."""
    search = {"code_b64": "qg==", "limit": 9}
    for name, id in (("one", "a"), ("two", "b")):
        assert ask(workers, 0, "PUT", f"/v1/collections/{name}", {"code": "8x1"})[0] == 200
        points = {"points": [{"id": id, "code_b64": "qg=="}]}
        assert ask(workers, 0, "POST", f"/v1/collections/{name}/points", points)[0] == 200
    for target, id in (("one", "a"), ("two", "b"), ("one", "a")):
        actions = {"actions": [{"create": {"alias": "now", "collection": target}}]}
        status, said = ask(workers, 0, "POST", "/v1/aliases", actions)
        assert status == 200, said
        for number in range(COUNT):
            found = json.loads(ask(workers, number, "POST", "/v1/collections/now/search", search)[1])
            assert [hit["id"] for hit in found["hits"]] == [id]
    assert ask(workers, 0, "DELETE", "/v1/collections/one")[0] == 200
    assert ask(workers, 0, "PUT", "/v1/collections/one", {"code": "8x1"})[0] == 200
    for number in range(COUNT):
        assert json.loads(ask(workers, number, "POST", "/v1/collections/one/search", search)[1])["hits"] == []


@pytest.mark.parametrize(("method", "path", "headers", "body"), REQUESTS)
def test_every_worker_gives_the_answer_of_the_primary(
    workers: Workers, method: str, path: str, headers: dict[str, str], body: bytes | None
):
    answers = []
    for number in (0, 1):
        connection = workers.connection(number)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            kept = sorted((name, value) for name, value in answer.getheaders() if name.lower() not in OWN_HEADERS)
            answers.append((answer.status, kept, answer.read()))
        finally:
            connection.close()
    assert answers[0] == answers[1]


def test_a_body_in_chunks_reaches_the_primary_whole(workers: Workers):
    connection = workers.connection(1)
    lines = [json.dumps({"id": f"p{n}", "code_b64": "qg==", "metadata": {"n": "x" * 1000}}) for n in range(500)]
    body = "\n".join(lines).encode()
    try:
        connection.request("PUT", "/v1/collections/chunked", b'{"code":"8x1"}', {"content-type": "application/json"})
        assert connection.getresponse().read()
        pieces = (body[start : start + 7001] for start in range(0, len(body), 7001))
        headers = {"content-type": "application/x-ndjson", "x-request-id": "the-callers-own"}
        connection.request("POST", "/v1/collections/chunked/ingest", pieces, headers, encode_chunked=True)
        answer = connection.getresponse()
        assert (answer.getheader("x-request-id"), answer.status) == ("the-callers-own", 202), answer.read()
        assert answer.read()
    finally:
        connection.close()
    with Client(str(workers.url)) as client:
        counted = wait_until(lambda: client.count("chunked") == len(lines), "all points are there")
    assert counted


def test_a_body_that_is_not_wanted_is_not_asked_for(workers: Workers):
    connection = workers.connection(1)
    try:
        head = (
            "PUT /v1/collections/large HTTP/1.1",
            "host: x",
            "content-type: application/json",
            "content-length: 9999999999",
            "expect: 100-continue",
        )
        connection.sock.sendall("\r\n".join([*head, "", ""]).encode())
        assert connection.sock.recv(12) == b"HTTP/1.1 413"
    finally:
        connection.close()


class Writer(threading.Thread):
    """Writes points one by one, each by a new connection, and keeps what was acknowledged."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__()
        self._url = url
        self._name = name
        self.done = threading.Event()
        self.acknowledged: list[str] = []
        self.failed: list[str] = []

    def run(self) -> None:
        for number in itertools.count():
            if self.done.is_set():
                return
            id = f"{self._name}{number}"
            try:
                with Client(self._url, retries=0, timeout_seconds=PATIENCE_SECONDS) as client:
                    client.upsert("kept", [{"id": id, "code_b64": "qg=="}])
                self.acknowledged.append(id)
            except (BebrError, httpx.HTTPError) as error:
                self.failed.append(f"{id}: {error!r}")


def test_no_acknowledged_write_is_lost_when_workers_die(workers: Workers):
    with Client(str(workers.url)) as client:
        client.create_collection("kept", code="8x1")
    writers = [Writer(str(workers.url), f"w{number}-") for number in range(2)]
    for writer in writers:
        writer.start()
    for number in (0, 1):
        before = workers.pids()[number]
        acknowledged = [len(writer.acknowledged) for writer in writers]
        workers.kill(number)
        workers.wait_for_worker(number, before)
        for writer, least in zip(writers, acknowledged, strict=True):
            wait_until(lambda w=writer, n=least: len(w.acknowledged) > n + 3, "writes go on")  # type: ignore[misc]
    for writer in writers:
        writer.done.set()
        writer.join()
    expected = {id for writer in writers for id in writer.acknowledged}
    with Client(str(workers.url)) as client:
        assert client.get("kept", sorted(expected)).missing == []
    assert workers.log.count("worker ended") >= 2


def test_a_primary_that_others_cannot_reach_is_replaced(workers: Workers):
    """What only the primary answers is there again once it can open its socket."""
    path = workers.folder / "data" / "run" / "primary.sock"
    path.unlink()
    path.mkdir()
    try:
        workers.kill(0)
        wait_until(lambda: "a worker that cannot go on ends" in workers.log, "it says so")
    finally:
        path.rmdir()
    with httpx.Client(base_url=str(workers.url), timeout=PATIENCE_SECONDS) as http:
        wait_until(lambda: http.get("/readyz").status_code == 200, "the primary is there")


def check_searches_while_the_primary_stands_still(workers: Workers, collection: str) -> None:
    """They go on; writes wait, for as long as their caller does."""
    points = {"points": [{"id": "a", "code_b64": "qg=="}]}
    connections = [workers.connection(number) for number in (1, 2)]
    primary = workers.pids()[0]
    os.kill(primary, signal.SIGSTOP)
    try:
        headers = {"content-type": "application/json"}
        for connection in connections:
            for _ in range(2):
                connection.request(
                    "POST", f"/v1/collections/{collection}/search", b'{"code_b64":"qg==","filter":null}', headers
                )
                answer = connection.getresponse()
                found = answer.read()
                assert answer.status == 200, found
                assert json.loads(found)["hits"]
            body = json.dumps(points).encode()
            connection.request("POST", f"/v1/collections/{collection}/points", body, headers | {"x-timeout-ms": "2000"})
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("retry-after")) == (503, "1")
            assert json.loads(answer.read())["error"] == "PrimaryUnavailable"
    finally:
        os.kill(primary, signal.SIGCONT)
        for connection in connections:
            connection.close()


def test_a_reload_replaces_all_workers_and_fails_no_request_and_searches_need_no_primary(workers: Workers):
    with Client(str(workers.url)) as client:
        client.create_collection("reloaded", code="8x1")
    done, failed, count = threading.Event(), [], itertools.count()

    def call(keep_alive: bool) -> None:
        with httpx.Client(base_url=str(workers.url), timeout=PATIENCE_SECONDS) as http:
            while not done.is_set():
                points = {"points": [{"id": f"p{next(count)}", "code_b64": "qg=="}]}
                headers = {} if keep_alive else {"connection": "close"}
                try:
                    wrote = http.post("/v1/collections/reloaded/points", json=points, headers=headers)
                    found = http.post(
                        "/v1/collections/reloaded/search", json={"code_b64": "qg==", "limit": 1}, headers=headers
                    )
                    if (wrote.status_code, found.status_code) != (200, 200):
                        failed.append(wrote.text + found.text)
                except httpx.HTTPError as error:
                    failed.append(repr(error))
                time.sleep(0.02)  # new workers are to start meanwhile

    callers = [threading.Thread(target=call, args=(keep_alive,)) for keep_alive in (True, True, False)]
    for caller in callers:
        caller.start()
    before = workers.pids()
    workers.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "reload ended" in workers.log or "reload failed" in workers.log, "the reload ends")
    done.set()
    for caller in callers:
        caller.join()
    assert failed == []
    after = workers.pids()
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values()), "all are new"
    check_searches_while_the_primary_stands_still(workers, "reloaded")


def test_a_service_on_redis_outlives_a_worker_that_stands_still(tmp_path: Path):
    with (
        running_server(ServerKind.REDIS) as redis,
        running_workers(tmp_path, 2, BEBR_REDIS_URL=redis.url, BEBR_DEAD_LOOP_SECONDS="10s") as workers,
    ):
        for first, second in ((0, 1), (1, 0)):
            name = f"docs{first}"
            assert ask(workers, first, "PUT", f"/v1/collections/{name}", {"code": "8x1"})[0] == 200
            for number in range(20):
                points = {"points": [{"id": f"p{number}", "code_b64": "qg=="}]}
                assert ask(workers, first, "POST", f"/v1/collections/{name}/points", points)[0] == 200
                status, found = ask(workers, second, "POST", f"/v1/collections/{name}/points/count", {})
                assert (status, json.loads(found)) == (200, {"count": number + 1})
        before = workers.pids()[1]
        os.kill(before, signal.SIGSTOP)
        workers.wait_for_worker(1, before)
        wait_until(lambda: len(workers.pids()) == 2, "both are there")


def test_a_killed_supervisor_takes_its_workers_along_and_no_write(tmp_path: Path):
    """What each of them has acknowledged is there for the next service in the same folder."""
    with ExitStack() as stack:
        workers = stack.enter_context(running_workers(tmp_path, 2))
        assert ask(workers, 1, "PUT", "/v1/collections/docs", {"code": "8x1"})[0] == 200
        for number in range(20):
            points = {"points": [{"id": f"p{number:02}", "code_b64": "qg=="}]}
            assert ask(workers, number % 2, "POST", "/v1/collections/docs/points", points)[0] == 200
        pids = list(workers.pids().values())
        assert len(pids) == 2
        workers.process.kill()
        workers.process.wait()
        wait_until(lambda: not any(_lives(pid) for pid in pids), "the workers end")
        again = stack.enter_context(running_workers(tmp_path, 2))
        for number in range(2):
            page = json.loads(ask(again, number, "POST", "/v1/collections/docs/points/scroll", {"limit": 100})[1])
            assert [point["id"] for point in page["points"]] == [f"p{n:02}" for n in range(20)]
        nobody_waits_for_a_primary_that_nobody_replaces(again)


def nobody_waits_for_a_primary_that_nobody_replaces(workers: Workers) -> None:
    pids = workers.pids()
    with closing(workers.connection(1)) as connection:
        workers.process.send_signal(signal.SIGSTOP)
        os.kill(pids[0], signal.SIGKILL)
        wait_until(lambda: not _lives(pids[0]), "the primary ends")
        connection.request("DELETE", "/v1/collections/docs")
        wait_until(lambda: is_read(connection), "the follower has the request")
        workers.process.kill()
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["error"]) == (503, "PrimaryUnavailable")
    workers.process.wait()
    wait_until(lambda: not _lives(pids[1]), "the follower ends")
    assert "Traceback" not in workers.log


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_data_folder_belongs_to_one_service_until_its_last_request_has_ended(tmp_path: Path):
    with running_workers(tmp_path, 2) as workers:
        for count in ("1", "2"):
            command = [*BEBR, "serve", "--workers", count, "--port", "0", "--data-dir", str(tmp_path / "data")]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
            assert (ended.returncode, "is in use by process" in ended.stderr) == (1, True), ended.stderr
        connection = workers.connection(1)
        sock = connection.sock
        try:
            head = (
                "PUT /v1/collections/docs HTTP/1.1",
                "host: x",
                "content-type: application/json",
                "content-length: 14",
                "connection: close",
                "expect: 100-continue",
            )
            sock.sendall("\r\n".join([*head, "", ""]).encode())
            assert b"100 Continue" in sock.recv(1000), "the service has begun with it"
            workers.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "stopping" in workers.log, "the supervisor has heard it")
            sock.sendall(b'{"code":"8x1"}')
            answer = b"".join(iter(lambda: sock.recv(1000), b"")).decode()
            assert answer.startswith("HTTP/1.1 200"), answer
        finally:
            connection.close()
        assert workers.process.wait(PATIENCE_SECONDS) == 0
        assert "Traceback" not in workers.log


def test_a_signal_stops_a_service_whose_lines_nobody_reads_any_more(tmp_path: Path):
    """As where Ctrl-C has ended `tee` first."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("BEBR_")}
    env |= {"BEBR_DATA_DIR": str(tmp_path), "BEBR_PORT": "0", "BEBR_WORKERS": "2"}
    with subprocess.Popen([*BEBR, "serve"], env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any("is ready at" in line for line in process.stderr)
            process.stderr.close()
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()


def test_a_worker_that_speaks_each_second_is_not_taken_for_dead():
    assert still_seconds(Settings(dead_loop_seconds=0.001)) > 3 * BEAT_SECONDS
    assert still_seconds(Settings(dead_loop_seconds=60.0)) == 60.0


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"BEBR_REDIS_URL": "redis://127.0.0.1:9/0"}, "127.0.0.1:9"),
        ({"BEBR_DATA_DIR": "/dev/null/data"}, "/dev/null"),
    ],
)
def test_a_start_that_fails_is_one_line(tmp_path: Path, variables: dict[str, str], message: str):
    env = {name: value for name, value in os.environ.items() if not name.startswith("BEBR_")}
    env |= {"BEBR_DATA_DIR": str(tmp_path), "BEBR_STORE_TIMEOUT_SECONDS": "500ms", "BEBR_WORKERS": "2"} | variables
    ended = subprocess.run([*BEBR, "serve"], env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1


ROUTE = 'bebr_http_requests_total{method="GET",route="/v1/collections/{collection}/points/{id}",status="404"}'


def test_probes_and_metrics_are_of_all_workers_whichever_answers(workers: Workers):
    probes = [httpx.get(f"http://127.0.0.1:{PROBE_PORT}/{probe}") for probe in ("livez", "readyz")]
    assert [(probe.status_code, probe.json()["status"]) for probe in probes] == [(200, "alive"), (200, "ready")]
    for number in range(COUNT):
        for _ in range(2):
            assert ask(workers, number, "GET", "/v1/collections/absent/points/x")[0] == 404
    for number in range(COUNT):
        status, text = ask(workers, number, "GET", "/metrics")
        lines = text.decode().splitlines()
        assert (status, f"{ROUTE} {2.0 * COUNT}" in lines) == (200, True)
        seconds = [line for line in lines if line.startswith("process_cpu_seconds_total{")]
        assert [f'worker="{n}"' in line for n, line in enumerate(seconds)] == [True] * COUNT
        assert len([line for line in lines if line.startswith("bebr_ready ")]) == 1


def test_what_workers_had_counted_that_died_stays_in_the_sums(workers: Workers):
    path = "/v1/collections/counted/points/a"
    found = ROUTE.replace('"404"', '"200"')

    def counted() -> float:
        lines = ask(workers, 1, "GET", "/metrics")[1].decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(found))

    points = {"points": [{"id": "a", "code_b64": "qg=="}]}
    assert ask(workers, 0, "PUT", "/v1/collections/counted", {"code": "8x1"})[0] == 200
    assert ask(workers, 0, "POST", "/v1/collections/counted/points", points)[0] == 200
    for number in range(COUNT):
        assert ask(workers, number, "GET", path)[0] == 200
    wait_until(lambda: counted() == COUNT, "all have said what they have counted")
    for number in (0, 1):
        old = workers.pids()[number]
        workers.kill(number)
        workers.wait_for_worker(number, old)
        workers.connection(number).close()
        assert counted() == COUNT
    assert ask(workers, 1, "GET", path)[0] == 200
    wait_until(lambda: counted() == COUNT + 1, "the new one has said so")
