"""Use everything that the image is for once: a package that lacks something ends the build, not a service.

    python use.py BUNDLES_FOLDER

Every module of bebr is imported, and compiled; then a service is started, filled with texts and vectors, searched,
exported, backed up, checked and stopped. What Python compiles meanwhile goes to PYTHONPYCACHEPREFIX, where it is
set: the image has the byte code of the modules that a service loads, and of no others.
"""

import compileall
import importlib
import json
import os
import pkgutil
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import bebr

START_SECONDS = 300


def import_all() -> None:
    compileall.compile_dir(Path(bebr.__file__).parent, quiet=1)
    for module in pkgutil.walk_packages(bebr.__path__, "bebr."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def call(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refusal:
        raise SystemExit(f"{method} {url}: {refusal.read().decode()}") from None


def until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(START_SECONDS * 10):
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=10).close()
            return
        except OSError:
            if process.poll() is not None:
                raise SystemExit("bebr serve ended") from None
            time.sleep(0.1)
    raise SystemExit("bebr serve was not ready in time")


def bebr_command(folder: Path, *arguments: str) -> None:
    subprocess.run(["bebr", *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def use(folder: Path, url: str) -> None:
    """Texts with metadata, filters, own vectors, files in and out, and the pages."""
    rows = [f"{number},a text about subject {number},{number % 7}" for number in range(300)]
    folder.joinpath("texts.csv").write_text("\n".join(["id,text,price", *rows]), "utf-8")
    bebr_command(folder, "ingest", "texts.csv", "-c", "texts", "--filterable", "price=float", "--url", url)
    cheap = {"must": [{"key": "price", "range": {"lt": 6}}]}
    query: dict[str, Any] = {"text": "subject 12", "limit": 3, "filter": cheap}
    assert len(call("POST", f"{url}/v1/collections/texts/search", query)["hits"]) == 3
    call("PUT", f"{url}/v1/collections/vectors", {"dims": 64})
    draw = random.Random(0)
    points = [{"id": str(n), "vector": [draw.gauss(0, 1) for _ in range(64)]} for n in range(200)]
    call("POST", f"{url}/v1/collections/vectors/points", {"points": points})
    query = {"vector": points[5]["vector"], "limit": 1}
    assert call("POST", f"{url}/v1/collections/vectors/search", query)["hits"][0]["id"] == "5"
    bebr_command(folder, "export", "texts", "texts.ndjson", "--url", url)
    for page in ("/", "/docs", "/metrics", "/openapi.json"):
        urllib.request.urlopen(f"{url}{page}", timeout=60).close()


def main() -> None:
    import_all()
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        shutil.copytree(sys.argv[1], folder / "data" / "bundles")
        command = ["bebr", "serve", "--port", str(port), "--data-dir", str(folder / "data")]
        process = subprocess.Popen(command, env={**os.environ, "BEBR_PROBE_PORT": "0"})
        try:
            until_ready(f"http://127.0.0.1:{port}", process)
            use(folder, f"http://127.0.0.1:{port}")
            bebr_command(folder, "backup", "all.backup", "--data-dir", "data")
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait()
        assert code == 0, f"bebr serve ended with {code}"
        bebr_command(folder, "verify", "--data-dir", "data")


if __name__ == "__main__":
    main()
