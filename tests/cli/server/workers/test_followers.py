"""What a worker that is not the primary does with requests that it begins to answer: it needs no more memory for them
than it must, and what its views are too late for the primary answers."""

import gzip
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.cli.server.workers.running import Workers, running_workers
from tests.waiting import wait_until

from bebr.core.types import Role
from bebr.shards import SharedSeqs

VECTORS = np.random.default_rng(0).standard_normal((40, 384)).round(3).tolist()
POINTS = [{"id": f"p{n:02}", "vector": vector, "metadata": {"n": n}} for n, vector in enumerate(VECTORS)]


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with running_workers(tmp_path_factory.mktemp("workers"), 2, BEBR_READ_WAIT_SECONDS="50ms") as running:
        yield running


def timeless(answer: bytes) -> bytes:
    """Without what differs from time to time."""
    return re.sub(rb'(?<="took_ms":)[^,}]+', b"0", answer)


def ask(
    workers: Workers, number: int, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, bytes]:
    return ask_all(workers, number, method, path, [body], **headers)[0]


def ask_all(
    workers: Workers, number: int, method: str, path: str, bodies: list[object], **headers: str
) -> list[tuple[int, bytes]]:
    """One after the other, on one connection to this worker."""
    connection, answers = workers.connection(number), []
    try:
        for body in bodies:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            given = {"content-type": "application/json", **headers} if body is not None else headers
            connection.request(method, path, content, given)
            answer = connection.getresponse()
            answers.append((answer.status, timeless(answer.read())))
    finally:
        connection.close()
    return answers


def has_onnx_runtime(workers: Workers, number: int) -> bool:
    return "onnxruntime" in Path(f"/proc/{workers.pids()[number]}/maps").read_text()


def test_a_follower_searches_vectors_without_onnx_runtime_and_equals_the_primary(workers: Workers):
    path = "/v1/collections/vectors"
    assert ask(workers, 0, "PUT", path, {"bundle": "minilm@2"})[0] == 200
    assert ask(workers, 1, "POST", f"{path}/points", {"points": POINTS})[0] == 200
    for body in ({"vector": VECTORS[3], "limit": 9}, {"id": "p07", "limit": 9}):
        answers = [ask(workers, number, "POST", f"{path}/search", body) for number in (0, 1)]
        assert answers[0] == answers[1]
        assert len(json.loads(answers[1][1])["hits"]) == 9
    assert (has_onnx_runtime(workers, 0), has_onnx_runtime(workers, 1)) == (True, False)

    def loads_it_for_codes() -> bool:
        """Unless it is late, and the primary answers."""
        for scorer in ("hamming", "sdc"):
            body = {"vector": VECTORS[3], "limit": 9, "scorer": scorer}
            answers = [ask(workers, number, "POST", f"{path}/search", body) for number in (0, 1)]
            assert (answers[0], answers[0][0]) == (answers[1], 200)
        return has_onnx_runtime(workers, 1)

    wait_until(loads_it_for_codes, "the follower makes codes of queries")


@pytest.fixture(scope="module")
def late(workers: Workers) -> str:
    """A collection that the follower believes to lack an operation of: the primary is said to have acknowledged one
    more than it has."""
    collections = workers.folder / "data" / "collections"
    before = {path.name for path in collections.glob("*")}
    path = "/v1/collections/late"
    assert ask(workers, 0, "PUT", path, {"code": "8x1", "shards": 1, "filterable": {"n": "integer"}})[0] == 200
    points = [{"id": f"p{n}", "code_b64": "qg==", "metadata": {"n": n}} for n in range(9)]
    assert ask(workers, 0, "POST", f"{path}/points", {"points": points})[0] == 200
    (folder,) = [one for one in collections.glob("*") if one.name not in before]
    shared = SharedSeqs(folder / "shared-seqs", 1, Role.PRIMARY)
    raw = shared.read()
    assert raw is not None
    shared.raise_to(0, int.from_bytes(raw, "little") + 1)
    shared.close()
    return path


REQUESTS = [
    ("POST", "/search", {"code_b64": "qg==", "limit": 3}),
    ("POST", "/search", {"code_b64": "qg==", "limit": 3, "filter": {"must": [{"key": "n", "range": {"gte": 5}}]}}),
    ("POST", "/search/batch", {"searches": [{"code_b64": "qg==", "limit": 3}]}),
    ("POST", "/points/get", {"ids": ["p1", "none"]}),
    ("POST", "/points/scroll", {"limit": 4}),
    ("POST", "/points/count", {}),
    ("GET", "/points/p3", None),
    ("POST", "/search", {"code_b64": "qg==", "limit": 0}),
]


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
def test_what_a_late_follower_cannot_answer_the_primary_does(
    workers: Workers, late: str, method: str, path: str, body: object
):
    expected, found = (ask(workers, number, method, late + path, body) for number in (0, 1))
    assert found == expected
    assert found[0] == (400 if isinstance(body, dict) and body.get("limit") == 0 else 200)


def test_so_it_does_with_requests_that_repeat_the_one_before_but_for_the_size_of_the_body(workers: Workers, late: str):
    """The first is decided by all layers, the next by the first one's head."""
    bodies = [{"code_b64": "qg==", "limit": limit} for limit in (100, 3, 20, 5)]
    expected, found = (ask_all(workers, number, "POST", f"{late}/search", bodies) for number in (0, 1))
    assert found == expected
    assert [len(json.loads(body)["hits"]) for _, body in found] == [9, 3, 9, 5]


def test_so_it_does_with_bodies_that_are_compressed_or_come_in_chunks(workers: Workers, late: str):
    body = json.dumps({"searches": [{"code_b64": "qg==", "limit": 3}] * 50}).encode()
    expected = ask(workers, 0, "POST", f"{late}/search/batch", body)
    zipped = ask(workers, 1, "POST", f"{late}/search/batch", gzip.compress(body), **{"content-encoding": "gzip"})
    assert (zipped, zipped[0]) == (expected, 200)
    connection = workers.connection(1)
    try:
        pieces = (body[start : start + 999] for start in range(0, len(body), 999))
        connection.request("POST", f"{late}/search/batch", pieces, {"content-type": "application/json"})
        answer = connection.getresponse()
        assert (answer.status, timeless(answer.read())) == expected
    finally:
        connection.close()


def test_it_answers_itself_again_once_it_has_caught_up(workers: Workers, late: str):
    assert ask(workers, 0, "POST", f"{late}/points", {"points": [{"id": "p9", "code_b64": "qg=="}]})[0] == 200
    status, body = ask(workers, 1, "POST", f"{late}/search", {"code_b64": "qg==", "limit": 20})
    assert (status, len(json.loads(body)["hits"])) == (200, 10)


def test_a_reload_waits_for_the_requests_of_all_workers_at_once(tmp_path: Path):
    """Uploads by way of two workers go on while both of them are replaced already."""
    with running_workers(tmp_path, 3, BEBR_RELOAD_WAIT_SECONDS="120s") as workers:
        path = "/v1/collections/uploaded"
        assert ask(workers, 0, "PUT", path, {"code": "8x1"})[0] == 200
        uploads = [workers.connection(number) for number in (1, 2)]
        try:
            for number, upload in enumerate(uploads):
                upload.putrequest("POST", f"{path}/ingest")
                upload.putheader("content-type", "application/x-ndjson")
                upload.putheader("transfer-encoding", "chunked")
                upload.endheaders()
                line = json.dumps({"id": f"p{number}", "code_b64": "qg=="}).encode() + b"\n"
                upload.send(b"%x\r\n%b\r\n" % (len(line), line))
            before = workers.pids()
            workers.process.send_signal(signal.SIGHUP)
            for number in (1, 2):
                workers.wait_for_worker(number, before[number])
            for upload in uploads:
                upload.send(b"0\r\n\r\n")
                assert upload.getresponse().status == 202
            wait_until(lambda: "reload ended" in workers.log, "the reload ends")
            workers.wait_for_worker(0, before[0])
        finally:
            for upload in uploads:
                upload.close()


def test_sockets_of_a_worker_that_was_killed_are_removed(workers: Workers):
    old = workers.pids()[1]
    socket = workers.folder / "data" / "run" / f"metrics-1-{old}"
    wait_until(socket.exists, "it says its metrics")
    workers.kill(1)
    workers.wait_for_worker(1, old)
    wait_until(lambda: not socket.exists(), "it is removed")
    assert workers.pids()[1] != old
    workers.connection(1).close()
