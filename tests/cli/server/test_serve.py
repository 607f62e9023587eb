"""`bebr serve` as a process: it says where it is, ends in good order, and tells in one line why it cannot start."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.waiting import PATIENCE_SECONDS

from bebr.cli.server.running import Service
from bebr.client import Client
from bebr.config import Settings

BEBR = [sys.executable, "-c", "from bebr.cli import main; main()"]


@contextmanager
def process(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("BEBR_")}
    started = subprocess.Popen(
        [*BEBR, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env | variables
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def address(started: subprocess.Popen[str]) -> str:
    assert started.stderr is not None
    said = ""
    for line in started.stderr:  # a machine that has no time for it makes it say more
        said += line
        if found := re.search(r"is ready at (http://\S+)", line):
            return found[1]
    raise AssertionError(said)


FINALIZED = """
import signal, sys
from pathlib import Path
from bebr.cli.server.serve import run
from bebr.config import Settings

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)  # what the handler raises here is ignored by the interpreter

run(Settings(data_dir=Path(sys.argv[1]), port=0), lambda url: Finalized() and None)
"""


def test_it_ends_on_a_signal_that_comes_while_an_object_is_finalized(tmp_path: Path):
    ended = subprocess.run([sys.executable, "-c", FINALIZED, tmp_path], capture_output=True, timeout=PATIENCE_SECONDS)
    assert ended.returncode == 0, ended.stderr
    assert b"Exception ignored in" in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_is_and_ends_on_a_signal(tmp_path: Path, number: signal.Signals):
    with process("serve", "--port", "0", "--data-dir", str(tmp_path)) as started:
        url = address(started)
        with Client(url) as client:
            client.check_ready()
            client.create_collection("docs", code="8x1")
        started.send_signal(number)
        out, err = started.communicate(timeout=PATIENCE_SECONDS)
    assert (started.returncode, out) == (0, "")
    assert "Traceback" not in err


def test_what_was_written_is_there_after_a_restart(tmp_path: Path):
    for existing in ([], ["docs"]):
        with (
            process("serve", "--port", "0", BEBR_DATA_DIR=str(tmp_path)) as started,
            Client(address(started)) as client,
        ):
            assert [collection["name"] for collection in client.list_collections()] == existing
            if not existing:
                client.create_collection("docs", code="8x1")
            started.send_signal(signal.SIGTERM)
            started.communicate(timeout=PATIENCE_SECONDS)


def test_a_running_request_ends_before_the_service_does(tmp_path: Path):
    with process("serve", "--port", "0", "--data-dir", str(tmp_path)) as started:
        url = httpx.URL(address(started))
        with socket.create_connection((url.host, url.port), timeout=PATIENCE_SECONDS) as connection:
            headers = (
                "host: x",
                "content-type: application/json",
                "content-length: 14",
                "connection: close",
                "expect: 100-continue",
            )
            connection.sendall("\r\n".join(["PUT /v1/collections/docs HTTP/1.1", *headers, "", ""]).encode())
            assert b"100 Continue" in connection.recv(1000), "the service has begun with it"
            started.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            connection.sendall(b'{"code":"8x1"}')
            answer = b"".join(iter(lambda: connection.recv(1000), b"")).decode()
            assert answer.startswith("HTTP/1.1 200"), answer
        started.communicate(timeout=PATIENCE_SECONDS)
    assert started.returncode == 0


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"BEBR_PROT": "1"}, "unknown variable BEBR_PROT; did you mean BEBR_PORT?"),
        ({"BEBR_REDIS_URL": "redis://127.0.0.1:9/0"}, "127.0.0.1:9"),
        ({"BEBR_HOST": "203.0.113.1"}, "cannot listen on 203.0.113.1:8000"),
        ({"BEBR_DATA_DIR": "/dev/null/data"}, "/dev/null"),
    ],
)
def test_a_start_that_fails_is_one_line(tmp_path: Path, variables: dict[str, str], message: str):
    with process(
        "serve", **({"BEBR_DATA_DIR": str(tmp_path), "BEBR_STORE_TIMEOUT_SECONDS": "500ms"} | variables)
    ) as started:
        _, err = started.communicate(timeout=PATIENCE_SECONDS)
    assert started.returncode == 1
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_port_that_is_taken_is_named(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with process("serve", "--port", str(port), "--data-dir", str(tmp_path)) as started:
            _, err = started.communicate(timeout=PATIENCE_SECONDS)
    assert started.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in err
    assert "--port" in err


def test_json_logs_are_json(tmp_path: Path):
    script = (
        "import logging; from bebr.cli.server.starting import configure_logs; "
        "from bebr.config import LogFormat, LogLevel; "
        "configure_logs(LogLevel.INFO, LogFormat.JSON); log = logging.getLogger('bebr.x'); "
        "log.info('hello %s', 'you'); log.debug('not shown')\n"
        "try: 1 / 0\nexcept ZeroDivisionError: log.exception('broken')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
    )
    first, second = map(json.loads, done.stderr.splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("info", "bebr.x", "hello you")
    assert "ZeroDivisionError" in second["exception"]


def test_the_files_of_a_service_are_for_its_user_only(tmp_path: Path):
    with Service(Settings(data_dir=tmp_path / "data", port=0, min_free_disk_bytes=0)) as service:
        httpx.put(f"{service.url}/v1/collections/docs", json={"code": "24x2"}).raise_for_status()
    for path in (tmp_path / "data", *(tmp_path / "data").rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
