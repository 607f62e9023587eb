"""kill -9 while a collection is imported: nobody sees a half of it, and the next import makes it whole."""

import base64
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bebr.client import Client
from bebr.errors import AlreadyExists, NotReady
from faults.service import Service

POINTS = 2_500
IMPORT = """
import os, signal, sys
from bebr.cli import main
from bebr.client import Client

sent, send = [], Client.import_points

def import_points(*given, **options):
    sent.append(given)
    if len(sent) == 3:
        for pid in (*map(int, sys.argv[1].split()), os.getpid()):
            os.kill(pid, signal.SIGKILL)
    return send(*given, **options)

Client.import_points = import_points
main(sys.argv[2:])
"""


def import_until_killed(url: str, file: Path, also: str = "") -> None:
    """`bebr import`, which is killed with two of three parts sent. also: pids that are killed before it."""
    command = [sys.executable, "-c", IMPORT, also, "import", str(file), "-c", "new", "--url", url]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def check_is_partial(client: Client) -> None:
    described = client.describe_collection("new")
    assert (described["status"], described["points"]) == ("importing", 2_000)
    code = bytes(16)
    uses = [
        lambda: client.search("new", code=code),
        lambda: client.count("new"),
        lambda: client.get_point("new", "p0001"),
        lambda: client.upsert("new", [{"id": "a", "code": code}]),
        lambda: client.ingest("new", [{"id": "a", "code_b64": base64.b64encode(code).decode()}]),
        lambda: client.get_definition("new"),
    ]
    for use in uses:
        with pytest.raises(NotReady, match="'new' is not whole: an import of it runs, or was cut short"):
            use()


def test_an_import_that_is_killed_shows_no_half_and_is_made_whole_by_the_next(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 256, (POINTS, 16), np.uint8)
    points = [{"id": f"p{n:04}", "code": codes[n].tobytes(), "metadata": {"n": n}} for n in range(POINTS)]
    file = tmp_path / "docs.ndjson"
    with (
        Service(tmp_path / "data", BEBR_HEAD_ROWS="512") as service,
        Client(service.url, retries=0) as client,
    ):
        bebr = [str(Path(sys.executable).with_name("bebr"))]
        client.create_collection("docs", code="128x1")
        client.upsert("docs", points)
        subprocess.run([*bebr, "export", "docs", str(file), "--url", service.url], check=True, capture_output=True)
        import_until_killed(service.url, file)
        check_is_partial(client)
        import_until_killed(service.url, file, also=str(service.pid))
        service.kill()
        service.start()
        check_is_partial(client)
        again = [*bebr, "import", str(file), "-c", "new", "--url", service.url]
        subprocess.run(again, check=True, capture_output=True)
        service.kill()
        service.start()
        assert client.describe_collection("new")["status"] == "ready"
        for name in ("docs", "new"):
            found = client.export_page(name, limit=POINTS + 1)["points"]
            codes_found = [base64.b64decode(point["code_b64"])[:16] for point in found]
            assert [point["id"] for point in found] == [point["id"] for point in points]
            assert codes_found == [point["code"] for point in points]
            assert [point["metadata"] for point in found] == [point["metadata"] for point in points]
        with pytest.raises(AlreadyExists):
            client.create_from_definition("new", client.get_definition("docs"), import_id="another")
