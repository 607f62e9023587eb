"""The Dockerfile passes hadolint, and says what the docs promise: two stages, an ordinary user, exec-form start."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
HADOLINT = Path(sys.executable).with_name("hadolint")


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    command = [HADOLINT, "--config", ROOT / "docker" / "hadolint.yaml", path]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)


def instructions(text: str) -> list[str]:
    """Return the instructions of a Dockerfile, one string each, continuation lines joined, comments dropped."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [" ".join(each.split()) for each in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()]


def final_stage() -> list[str]:
    found = instructions(DOCKERFILE.read_text("utf-8"))
    last_from = max(i for i, each in enumerate(found) if each.startswith("FROM "))
    return found[last_from:]


def test_dockerfile_passes_hadolint() -> None:
    done = hadolint(DOCKERFILE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        ("FROM python:latest\n", "DL3007"),
        ('FROM python:3.11\nRUN cd /tmp && echo "$(which x)" | sh\n', "DL4006"),
        ("FROM python:3.11\nCMD bebr serve\n", "DL3025"),
    ],
)
def test_hadolint_catches_a_fault(tmp_path: Path, broken: str, rule: str) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(broken, "utf-8")
    done = hadolint(path)
    assert done.returncode != 0
    assert rule in done.stdout


def test_final_stage_is_small_and_unprivileged() -> None:
    stage = final_stage()
    assert "USER 10001:10001" in stage
    assert stage.index("USER 10001:10001") < stage.index("VOLUME /data")
    assert not any("apt-get" in each or "pip install" in each for each in stage), "only the first stage installs"


def test_signals_reach_the_service() -> None:
    assert 'ENTRYPOINT ["bebr"]' in final_stage()
    assert 'CMD ["serve"]' in final_stage()


def test_every_copied_file_is_there_and_reaches_the_builder() -> None:
    """`.dockerignore` starts from nothing, so each COPY source needs a line there."""
    ignore = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for each in instructions(DOCKERFILE.read_text("utf-8")):
        if each.startswith("COPY ") and "--from=" not in each:
            for source in each.split()[1:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignore, source
