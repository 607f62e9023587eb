"""The doors through which points come in. Each sends the same points or bytes in its own way and says what came of it:
the classes of the errors, by position or as a list."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic_core import from_json
from tests.cli.test_commands import run

from bebr.client import Client

JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}
Errors = dict[int, str]
"""Position of a point -> name of the class of its error."""


@dataclass
class Doors:
    """All doors of one service."""

    client: Client
    http: httpx.Client
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def json(self, collection: str, raw: Sequence[bytes]) -> Errors:
        """As one JSON body; what is no JSON, which fails a whole body, is sent alone."""
        found: Errors = {}
        sound = [position for position, point in enumerate(raw) if _is_json(point)]
        for positions in (sound, *([p] for p in range(len(raw)) if p not in sound)):
            body = b'{"points":[' + b",".join(raw[position] for position in positions) + b"]}"
            answer = self.http.post(f"/v1/collections/{collection}/points", content=body, headers=JSON)
            found |= _items(answer, positions)
        return found

    def ndjson(self, collection: str, raw: Sequence[bytes]) -> Errors:
        body = b"\n".join(raw)
        answer = self.http.post(f"/v1/collections/{collection}/points", content=body, headers=NDJSON)
        return _items(answer, range(len(raw)))

    def frame(self, collection: str, points: Sequence[dict[str, Any]]) -> Errors:
        """As a binary frame, from values."""
        rows = np.array([point["vector"] for point in points], "<f4")
        header = {"dims": rows.shape[1], "count": len(rows), "ids": [point["id"] for point in points]}
        header["metadata"] = [point.get("metadata") for point in points]
        text = json.dumps(header).encode()
        body = len(text).to_bytes(8, "little") + text + rows.tobytes()
        answer = self.http.post(
            f"/v1/collections/{collection}/points/vectors",
            content=body,
            headers={"content-type": "application/octet-stream"},
        )
        return _items(answer, range(len(points)))

    def upsert(self, collection: str, values: Sequence[Any]) -> Errors:
        """By the client, from values."""
        report = self.client.upsert(collection, values)
        assert report.applied + report.rejected == len(values)
        return {item.index: item.error for item in report.items}

    def ingest(self, collection: str, body: bytes, **headers: str) -> list[tuple[int, str]]:
        """(line, class) of each error; (0, Malformed) for a body that is refused or a job that failed."""
        answer = self.http.post(f"/v1/collections/{collection}/ingest", content=body, headers=NDJSON | headers)
        if answer.status_code != 202:
            return [(0, answer.json()["error"])]
        job = self.client.wait_job(answer.json()["job"], poll_seconds=0.005)
        return self._errors(job)

    def ingest_file(self, collection: str, body: bytes) -> list[tuple[int, str]]:
        """By the client, from a file."""
        path = self.folder / "points.ndjson"
        path.write_bytes(body)
        try:
            return self._errors(self.client.ingest(collection, path))
        except Exception as error:
            return [(0, type(error).__name__)]

    def command(self, collection: str, body: bytes, name: str = "points.ndjson") -> list[tuple[int, str]]:
        """By `bebr ingest FILE`; `-` is stdin."""
        path = self.folder / name
        if name == "-":
            self.monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(body)))
        else:
            path.write_bytes(body)
        self.capsys.readouterr()
        code = run("ingest", name if name == "-" else str(path), "-c", collection, "--json")
        printed = self.capsys.readouterr()
        if not printed.out:
            assert code == 1 and (name == "-" or name in printed.err), printed.err
            return [(0, "Malformed" if "got " in printed.err or "gzip" in printed.err else printed.err)]
        job = json.loads(printed.out)
        assert code == (1 if job["rejected"] or job["state"] != "succeeded" else 0)
        failed = [(0, "Malformed")] if job["state"] == "failed" and "broken" in job["detail"] else []
        return failed + [(error["line"], error["error"]) for error in job["errors"]]

    def _errors(self, job: Any) -> list[tuple[int, str]]:
        failed = [(0, "Malformed")] if job.state == "failed" and "broken" in job.detail else []
        return failed + [(error["line"], error["error"]) for error in self.client.job_errors(job.id)]


def _items(answer: httpx.Response, positions: Sequence[int]) -> Errors:
    if answer.status_code != 200:
        return dict.fromkeys(positions, answer.json()["error"])
    report = answer.json()
    assert report["applied"] + report["rejected"] == len(positions)
    return {positions[item["index"]]: item["error"] for item in report["items"]}


def _is_json(raw: bytes) -> bool:
    try:
        from_json(raw)
    except ValueError:
        return False
    return True
