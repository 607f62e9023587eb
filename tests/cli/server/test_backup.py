"""`bebr backup` beside a running service, and `bebr restore` into another folder that a service then serves."""

from pathlib import Path

import numpy as np
import pytest

from bebr.client import Client
from cli.server.test_serve import address, process
from cli.test_commands import run

VECTORS = np.random.default_rng(0).standard_normal((300, 32)).astype(np.float32)


def answers(client: Client) -> list[list[tuple[str, float]]]:
    return [[(hit.id, hit.score) for hit in client.search("docs", vector=vector, limit=5)] for vector in VECTORS[:5]]


def test_what_a_running_service_has_is_served_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    there, here, file = (str(tmp_path / name) for name in ("there", "here", "nightly.backup"))

    def bebr(*arguments: str) -> tuple[int, str]:
        code = run(*arguments)
        return code, "".join(capsys.readouterr())

    with process("serve", "--port", "0", "--data-dir", here) as started, Client(address(started)) as client:
        client.create_collection("docs", fit={"bytes": 4, "dims": 32, "sample": 200}, filterable={"n": "integer"})
        client.upsert_vectors("docs", [f"p{n}" for n in range(300)], VECTORS, [{"n": n} for n in range(300)])
        client.wait_fit("docs")
        for _ in range(2):  # the second one replaces the first
            code, said = bebr("backup", file, "--data-dir", here)
            assert code == 0 and "1 collections, 300 points" in said and "docs: " in said
        expected = answers(client)
        code, said = bebr("restore", file, "--data-dir", here)
        assert code == 1 and "in use" in said
    code, said = bebr("restore", file, "--check", "--data-dir", there)
    assert code == 0 and "is whole" in said and not Path(there).exists()
    code, said = bebr("restore", file, "--data-dir", there)
    assert code == 0 and "restored 1 collections, 300 points" in said
    code, said = bebr("restore", file, "--data-dir", there)
    assert code == 1 and "not empty" in said
    quiet = ("--log-level", "error")
    with process("serve", "--port", "0", "--data-dir", there, *quiet) as started, Client(address(started)) as client:
        assert answers(client) == expected
        assert client.count("docs", filter={"must": [{"key": "n", "range": {"lt": 10}}]}) == 10
    Path(file).write_bytes(Path(file).read_bytes()[:-20_000])
    code, said = bebr("restore", file, "--data-dir", str(tmp_path / "third"))
    assert code == 1 and "no whole backup" in said and not (tmp_path / "third").exists()
    code, said = bebr("backup", str(tmp_path / "none"), "--data-dir", str(tmp_path / "third"))
    assert code == 1 and "there is no store" in said
