"""Every BEBR_* variable that a deployment sets is a setting: an unknown one would stop the service at its start."""

import re
from pathlib import Path

import pytest

from bebr.config.settings import setting_fields

ROOT = Path(__file__).resolve().parents[2]
KNOWN = {f"BEBR_{field.name.upper()}" for field in setting_fields()}
FILES = [
    ROOT / "docker-compose.yml",
    ROOT / "docker" / "Dockerfile",
    ROOT / "docker" / "healthcheck.py",
    *sorted((ROOT / "deploy").rglob("*.yaml")),
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_variables_are_settings(path: Path) -> None:
    assert set(re.findall(r"\bBEBR_[A-Z_]+", path.read_text("utf-8"))) <= KNOWN


def test_image_sets_where_it_listens_and_stores() -> None:
    named = set(re.findall(r"\bBEBR_[A-Z_]+", (ROOT / "docker" / "Dockerfile").read_text("utf-8")))
    assert {"BEBR_HOST", "BEBR_PORT", "BEBR_DATA_DIR"} <= named
