"""The pages for the first afternoon: each command of them is run as a person types it, and prints what they show."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import faiss
import numpy as np
import pytest
import transformers
from tests.client.running import running_service
from tests.encoding.importing.ready.exports import ARCHITECTURES, export
from tests.waiting import PATIENCE_SECONDS

from bebr.encoding.importing.pull import known_checkpoint, pull

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"```(\w+)(?: (\S+))?\n(.*?)```", re.DOTALL)
DEFAULT = "http://127.0.0.1:8000"
QDRANT = "http://localhost:6333"
SHOP = [
    {"id": 1, "vector": [0.12, -0.4, 0.9, 0.3], "payload": {"title": "Desk lamp", "price": 39.9}},
    {"id": 2, "vector": [0.1, -0.5, 0.8, 0.2], "payload": {"title": "Floor lamp", "price": 89.0}},
    {"id": 3, "vector": [-0.9, 0.1, 0.0, 0.4], "payload": {"title": "Office chair", "price": 219.0}},
]


class Scroll(BaseHTTPRequestHandler):
    """Answers as Qdrant documents it for POST /collections/shop/points/scroll, two points a page."""

    def do_POST(self) -> None:
        assert self.path == "/collections/shop/points/scroll"
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        first = 0 if asked["offset"] is None else asked["offset"] - 1
        follows = first + 3 if first + 2 < len(SHOP) else None
        answer = {"result": {"points": SHOP[first : first + 2], "next_page_offset": follows}, "status": "ok"}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def scrolled() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Scroll) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def commands(block: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console block with the lines that it prints."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *printed = part.strip().split("\n")
        yield command, printed


def comparable(lines: list[str]) -> list[str]:
    """Lines without what differs from run to run: ids of jobs, times, rates, digits of scores; widths of columns; and
    bars of progress."""
    text = "\n".join(" ".join(line.split()) for line in lines if "━" not in line)
    for pattern, stands in ((r"job [0-9a-f]{16}", "job"), (r"at [\d,]+/s", "at/s"), (r"-?\d+\.\d+", "#")):
        text = re.sub(pattern, stands, text)
    return text.split("\n")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("walkthroughs") / "bundles"
    pull("minilm", folder)
    return folder


def write_model(folder: Path) -> None:
    """The packaged model as optimum lays it out: a graph that torch exports, and no weights beside it."""
    weights = known_checkpoint("minilm")
    shutil.copytree(weights, folder, ignore=shutil.ignore_patterns("*.safetensors", "onnx"))
    model = transformers.AutoModel.from_pretrained(weights).eval()
    export(model, folder / "onnx" / "model.onnx", ARCHITECTURES["bert"].inputs)


@pytest.mark.parametrize("page", ["texts", "vectors", "coming-from", "models"])
def test_the_commands_of_a_page_print_what_it_shows(page: str, bundles: Path, tmp_path: Path) -> None:
    if page == "models":
        write_model(tmp_path / "all-MiniLM-L6-v2")
        bundles = tmp_path / "bebr-data" / "bundles"
    index = faiss.IndexFlatIP(128)
    index.add(np.random.default_rng(0).standard_normal((500, 128)).astype(np.float32))
    faiss.write_index(index, str(tmp_path / "old.index"))
    ran = 0
    with running_service(tmp_path / "bebr-data", bundles_dir=bundles) as service, scrolled() as qdrant:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "BEBR_URL": service.url, "COLUMNS": "110"}
        for language, file, content in BLOCK.findall((DOCS / f"{page}.md").read_text("utf-8")):
            if file:
                (tmp_path / file).write_text(content.replace(DEFAULT, service.url), "utf-8")
            if language != "console":
                continue
            for command, printed in commands(content):
                typed = ["bash", "-c", command.replace(QDRANT, qdrant) + " 2>&1"]
                done = subprocess.run(
                    typed, env=env, cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=PATIENCE_SECONDS
                )
                assert done.returncode == 0, (command, done.stdout)
                assert comparable(done.stdout.strip().split("\n")) == comparable(printed or [""]), command
                ran += 1
    assert ran >= 4
