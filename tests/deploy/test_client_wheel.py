"""The wheel of the client alone: pure Python, and it talks to a service without anything else of bebr."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import httpx
import numpy
from tests.client.running import running_service
from tests.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
sys.path += sys.argv[2:]
import bebr
assert bebr.__file__.startswith(sys.argv[2]), bebr.__file__
with bebr.Client(sys.argv[1]) as client:
    client.create_collection("codes", code="24x2")
    print(client.count("codes"))
assert not [name for name in sys.modules if name.startswith(("bebr.kernel", "fastapi", "onnxruntime"))]
"""


def test_the_wheel_of_the_client_stands_alone(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*build, "--wheel-dir", tmp_path, ROOT / "deploy" / "client"], check=True, timeout=PATIENCE_SECONDS)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    alone = tmp_path / "alone"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(alone)
    libraries = {str(Path(module.__file__ or "").parents[1]) for module in (httpx, numpy)}
    with running_service(tmp_path / "data") as service:
        # -I and -S: neither this folder nor what is installed, but for what is named
        command = [sys.executable, "-I", "-S", "-c", PROGRAM, service.url, str(alone), *sorted(libraries)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_both_wheels_have_one_version_and_the_same_needs() -> None:
    whole, client = (
        tomllib.loads((ROOT / path).read_text("utf-8"))["project"]
        for path in ("pyproject.toml", "deploy/client/pyproject.toml")
    )
    for field in ("version", "dependencies", "requires-python", "license"):
        assert whole[field] == client[field]
