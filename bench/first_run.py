"""What a newcomer waits for: from a fresh clone to the first search, by `make run` or by docker compose.

    python -m bench.first_run [--compose "docker compose" [--from-nothing]]

Without --compose: a clone of what is committed here, and `make run` in it without pip's cache, until a search of
the demo finds 5 hits while it is filled, and until it is filled. CPU seconds are those of all that was started.
With --compose: the image is built (--from-nothing: without a cache, the base images being there), and then
docker-compose.yml is started, until its service is ready. CPU seconds of the engine are not counted.
"""

import argparse
import os
import resource
import shlex
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = "/v1/collections/python-docs"
FILLED_POINTS = 4000
PAUSE_SECONDS = 0.1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def megabytes(folder: Path) -> float:
    return int(subprocess.check_output(["du", "--summarize", "--bytes", folder]).split()[0]) / 1e6


def finds(client: httpx.Client) -> bool:
    """Whether a search answers with hits."""
    with suppress(httpx.TransportError):
        answer = client.post(f"{COLLECTION}/search", json={"text": "parse a date", "limit": 5})
        return answer.is_success and len(answer.json()["hits"]) == 5
    return False


def points(client: httpx.Client) -> int:
    answer = client.post(f"{COLLECTION}/points/count")
    return int(answer.json()["count"]) if answer.is_success else 0


def make_run(folder: Path) -> None:
    clone, port = folder / "bebr", free_port()
    began = time.perf_counter()
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    cloned = megabytes(clone)
    command = ["make", "--no-print-directory", "run", f"ARGS=--port {port}"]
    environment = os.environ | {"PIP_NO_CACHE_DIR": "1"}
    with (
        subprocess.Popen(command, cwd=clone, env=environment, start_new_session=True) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client,
    ):
        try:
            for reached, name in ((finds, "first search"), (lambda c: points(c) >= FILLED_POINTS, "filled")):
                while not reached(client):
                    if process.poll() is not None:
                        raise SystemExit(f"make run ended with {process.returncode}")
                    time.sleep(PAUSE_SECONDS)
                print(f"{name}: {time.perf_counter() - began:.1f} s", flush=True)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            process.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"CPU: {used.ru_utime + used.ru_stime:.0f} s")
    print(f"disk: {megabytes(clone):.0f} MB, {cloned:.0f} of them the clone")


def compose_up(compose: list[str], from_nothing: bool) -> None:
    port = free_port()
    project = [*compose, "--project-name", f"bebr-bench-{port}"]
    environment = os.environ | {"PUBLISH_ADDRESS": f"127.0.0.1:{port}"}
    build = [
        "docker",
        "build",
        "--quiet",
        "--network",
        "host",
        "--file",
        "docker/Dockerfile",
        "--tag",
        "bebr:0.1.0",
        ".",
    ]
    began = time.perf_counter()
    subprocess.run([*build, *(["--no-cache"] if from_nothing else [])], cwd=ROOT, check=True)
    built = time.perf_counter()
    print(f"build: {built - began:.1f} s", flush=True)
    try:
        subprocess.run([*project, "up", "--detach", "--wait", "--no-build"], cwd=ROOT, env=environment, check=True)
        httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=120).raise_for_status()
        ready = time.perf_counter()
        print(f"up to ready: {ready - built:.1f} s; both {ready - began:.1f} s")
    finally:
        subprocess.run([*project, "down", "--volumes"], cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compose", help="command of Docker Compose v2")
    parser.add_argument("--from-nothing", action="store_true", help="build the image without a cache")
    given = parser.parse_args()
    if given.compose:
        compose_up(shlex.split(given.compose), given.from_nothing)
    elif given.from_nothing:
        parser.error("--from-nothing goes with --compose")
    else:
        with TemporaryDirectory(prefix="bebr-first-run-") as scratch:
            make_run(Path(scratch))
