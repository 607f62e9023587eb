"""docker compose, for real: build, start, ingest, search, kill, back up, restore, keys, limits, an older data folder.

`make test-compose` runs these, against the Docker Engine and the Compose v2 that it finds; BEBR_TEST_COMPOSE names the
command of Compose. Without that they are skipped: they build an image, which takes minutes.
"""

import json
import os
import shlex
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.golden.opening import FORMATS, Golden, until_idle
from tests.golden.test_formats import compare
from tests.waiting import PATIENCE_SECONDS, until, wait_until

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "bebr:0.1.0"
POINTS = [{"id": f"p{i}", "text": text} for i, text in enumerate(("bread and yeast", "a frozen harbor", "a fast car"))]
MAX_IMAGE_BYTES = 450_000_000
"""Without the default model, on any base image of Debian with Python."""
MAX_OWN_BYTES = 240_000_000
"""What we add to the base image, without the default model."""
SLOW_SECONDS = 1800
"""A build fetches packages, on a machine that may be busy."""

pytestmark = [
    pytest.mark.skipif("BEBR_TEST_COMPOSE" not in os.environ, reason="builds an image; `make test-compose` runs these"),
    pytest.mark.timeout(SLOW_SECONDS),
]


def run(*command: object, env: Mapping[str, str] | None = None) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **(env or {})},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SLOW_SECONDS,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@dataclass
class Project:
    """The services of docker-compose.yml under a name and a port of their own."""

    folder: Path
    port: int
    files: list[Path] = field(default_factory=lambda: [ROOT / "docker-compose.yml"])
    settings: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: object) -> str:
        files = [part for path in self.files for part in ("--file", path)]
        address = {"PUBLISH_ADDRESS": f"127.0.0.1:{self.port}"}
        compose = shlex.split(os.environ["BEBR_TEST_COMPOSE"])
        return run(
            *compose, "--project-name", f"bebr-test-{self.port}", *files, *arguments, env=address | self.settings
        )

    def override(self, name: str, **services: Any) -> None:
        """Lay another file over those that are there, as `compose --file` does."""
        path = self.folder / f"{name}.yml"
        path.write_text(json.dumps({"services": services}), "utf-8")  # JSON is YAML
        self.files.append(path)

    def up(self, *services: str) -> None:
        self("up", "--detach", "--wait", "--no-build", *services)

    def container(self, service: str) -> str:
        return self("ps", "--quiet", "--all", service).strip()

    def inspect(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run("docker", "inspect", self.container(service)))[0]
        return found

    def inside(self, command: str) -> str:
        """The output of a shell command in the container of the service, whatever its exit code."""
        return self("exec", "--no-TTY", "bebr", "sh", "-c", f"{command} 2>&1; true")

    def client(self, key: str = "") -> httpx.Client:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def image() -> str:
    """The image, built from this checkout."""
    run("make", "--no-print-directory", "image")
    return IMAGE


@pytest.fixture
def project(image: str, tmp_path: Path) -> Iterator[Project]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    project = Project(tmp_path, port)
    try:
        yield project
    finally:
        project("down", "--volumes", "--timeout", 60)


def fill(client: httpx.Client) -> None:
    assert client.put("/v1/collections/notes", json={"bundle": "minilm@2"}).is_success
    answer = client.post("/v1/collections/notes/points", json={"points": POINTS})
    assert answer.status_code == 200, answer.text


def best(client: httpx.Client, text: str) -> str:
    answer = client.post("/v1/collections/notes/search", json={"text": text, "limit": 1})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["hits"][0]["id"])


def test_image_holds_what_a_service_needs_and_no_more(image: str) -> None:
    details = json.loads(run("docker", "image", "inspect", image))[0]
    assert details["Config"]["User"] == "10001:10001"
    tools = "for each in gcc cc g++ make pip pip3; do command -v $each; done; python -c 'import pip'; true"
    found = run("docker", "run", "--rm", "--entrypoint", "sh", image, "-c", f"({tools}) 2>&1")
    assert "No module named 'pip'" in found
    assert [line for line in found.splitlines() if line.startswith("/")] == []


def test_image_is_small(image: str) -> None:
    model = "$(python -c 'from bebr.encoding import shipped_bundles; print(shipped_bundles())')/minilm@[12]"
    sizes = run(
        *("docker", "run", "--rm", "--entrypoint", "sh", image, "-c"),
        f"du --summarize --bytes --total {model} | tail -n 1; du --summarize --bytes /opt/bebr",
    )
    model_bytes, own_bytes = (int(line.split()[0]) for line in sizes.splitlines())
    assert model_bytes > 80_000_000, "the model is in the image"
    whole = json.loads(run("docker", "image", "inspect", image))[0]["Size"]
    assert whole - model_bytes <= MAX_IMAGE_BYTES
    assert own_bytes - model_bytes <= MAX_OWN_BYTES


def test_what_a_service_loads_is_compiled(image: str) -> None:
    """Each start would compile it again, as the file system is read-only. What is frozen is in the interpreter."""
    compiled = """
import importlib.util, os, sys
import bebr.cli, bebr.server.app, onnxruntime, redis
specs = [module.__spec__ for module in list(sys.modules.values()) if getattr(module, "__spec__", None)]
sources = [spec.origin for spec in specs if str(spec.origin).endswith(".py")]
lacking = [path for path in sources if not os.access(importlib.util.cache_from_source(path), os.R_OK)]
print(len(sources), lacking)
"""
    count, lacking = run("docker", "run", "--rm", "--entrypoint", "python", image, "-c", compiled).split(" ", 1)
    assert int(count) > 500
    assert lacking.strip() == "[]"


def test_points_survive_the_death_of_all_containers(project: Project) -> None:
    project.up()
    with project.client() as client:
        fill(client)
        assert best(client, "baking") == "p0"
    for service in ("bebr", "valkey"):
        run("docker", "kill", "--signal", "KILL", project.container(service))
    project.up()
    with project.client() as client:
        assert best(client, "winter at the sea") == "p1"


def test_service_is_confined_and_limited(project: Project) -> None:
    project.settings["CONTAINER_MEMORY"] = "1g"
    project.up()
    assert "Read-only file system" in project.inside("touch /anywhere")
    assert project.inside("id -u").strip() == "10001"
    assert set(project.inside("grep ^Cap /proc/1/status").split()[1::2]) == {"0" * 16}
    assert project.inspect("bebr")["HostConfig"]["Memory"] == 2**30
    soft, hard = project.inside("grep 'open files' /proc/1/limits").split()[3:5]
    assert soft == hard
    assert project.inspect("valkey")["NetworkSettings"]["Ports"] in ({}, {"6379/tcp": None})


def test_backup_fills_an_empty_store(project: Project, tmp_path: Path) -> None:
    project.up()
    with project.client() as client:
        fill(client)
    project("exec", "--no-TTY", "bebr", "bebr", "backup", "/data/notes.backup")
    run("docker", "cp", f"{project.container('bebr')}:/data/notes.backup", tmp_path)
    project("down", "--volumes", "--timeout", 60)
    tmp_path.joinpath("notes.backup").chmod(0o644)
    project.up("valkey")
    source = f"{tmp_path / 'notes.backup'}:/notes.backup:ro"
    project("run", "--rm", "--no-TTY", "--no-deps", "--volume", source, "bebr", "restore", "/notes.backup")
    project.up()
    with project.client() as client:
        assert best(client, "baking") == "p0"


def test_keys_come_from_secrets(project: Project, tmp_path: Path) -> None:
    key = "a-key-that-nobody-guesses"
    secret = tmp_path / "bebr_api_keys"
    secret.write_text(key + "\n", "utf-8")
    project.override(
        "keys",
        bebr={
            "environment": {"BEBR_API_KEYS_FILE": "/run/secrets/bebr_api_keys"},
            "volumes": [f"{secret}:/run/secrets/bebr_api_keys:ro"],
        },
    )
    project.up()
    with project.client() as client:
        assert client.get("/v1/collections").status_code == 401
    with project.client(key) as client:
        assert client.get("/v1/collections").status_code == 200
    assert key not in project("logs") + json.dumps(project.inspect("bebr")) + project.inside("bebr config")


def test_what_a_protected_store_says_is_passed_on(project: Project) -> None:
    plain = ["redis-server", "--protected-mode", "yes"]
    project.override("protected", valkey={"command": plain, "entrypoint": []})
    project("up", "--detach", "--no-build")
    wait_until(lambda: "Redis refuses: DENIED" in project("logs", "bebr"), "the service says why it does not start")


async def test_data_folder_of_an_older_release(image: str, tmp_path: Path) -> None:
    golden = Golden(FORMATS[0], "sqlite/killed", None)
    data = golden.copy(tmp_path / "data")
    user = f"{os.getuid()}:{os.getgid()}"
    container = run(
        *("docker", "run", "--detach", "--user", user, "--read-only", "--tmpfs", "/tmp", "--volume", f"{data}:/data"),
        *("--publish", "127.0.0.1::8000", image),
    ).strip()
    try:
        port = run("docker", "port", container, "8000").split(":")[-1].strip()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client:

            async def is_ready() -> bool:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(is_ready, "/readyz")
            await until_idle(client)
            await compare(client, golden)
    finally:
        run("docker", "rm", "--force", container)
