"""docker-compose.yml fits the compose specification, and keeps what the docs promise about data and exposure."""

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from tests.servers import Server, ServerKind
from tests.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"


def against_schema(path: Path) -> subprocess.CompletedProcess[str]:
    """Check a file against the published compose-spec schema, which check-jsonschema carries."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", path]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)


@pytest.fixture
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]
    return services


def test_compose_fits_the_specification() -> None:
    done = against_schema(COMPOSE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "broken",
    [
        "services:\n  bebr:\n    imagge: bebr\n",
        "services:\n  bebr:\n    image: bebr\n    ports: 8000\n",
        "services:\n  bebr:\n    image: bebr\n    depends_on:\n      valkey:\n        condition: service_happy\n",
    ],
)
def test_schema_catches_a_fault(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "docker-compose.yml"
    path.write_text(broken, "utf-8")
    assert against_schema(path).returncode != 0


def test_references_resolve(services: dict[str, Any]) -> None:
    """The schema knows shapes, not names: volumes, networks and dependencies must exist."""
    whole = yaml.safe_load(COMPOSE.read_text("utf-8"))
    for service in services.values():
        assert set(service["networks"]) <= set(whole["networks"])
        assert {volume.split(":")[0] for volume in service["volumes"]} <= set(whole["volumes"])
        for name in service.get("depends_on", {}):
            assert "healthcheck" in services[name], "service_healthy waits for a health check"


def test_store_keeps_what_was_acknowledged(services: dict[str, Any]) -> None:
    command = services["valkey"]["command"]
    flags = dict(zip(command[1::2], command[2::2], strict=True))
    assert flags["--appendonly"] == "yes"
    assert flags["--appendfsync"] == "always"
    assert flags["--maxmemory-policy"] == "noeviction"
    assert "store:/data" in services["valkey"]["volumes"]


def test_a_real_server_takes_these_flags(services: dict[str, Any]) -> None:
    flags = [re.sub(r"\$\{\w+:-(\w+)\}", r"\1", flag) for flag in services["valkey"]["command"][1:]]
    with TemporaryDirectory(prefix="bebr-compose-") as folder:
        server = Server(ServerKind.VALKEY, Path(folder), appendfsync="no", options=tuple(flags))
        server.start()
        try:
            assert b"always" in server.command("CONFIG", "GET", "appendfsync")
            assert b"2147483648" in server.command("CONFIG", "GET", "maxmemory")
            assert b"noeviction" in server.command("CONFIG", "GET", "maxmemory-policy")
        finally:
            server.stop()


def test_store_is_not_exposed(services: dict[str, Any]) -> None:
    whole = yaml.safe_load(COMPOSE.read_text("utf-8"))
    assert "ports" not in services["valkey"]
    assert services["valkey"]["networks"] == ["store"]
    assert whole["networks"]["store"]["internal"] is True


def test_service_is_confined(services: dict[str, Any]) -> None:
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert service["deploy"]["resources"]["limits"]["memory"]
    assert services["bebr"]["ports"] == ["${PUBLISH_ADDRESS:-127.0.0.1:8000}:8000"]
