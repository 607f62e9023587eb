"""docs/api.md is right: its examples run in the order in which they stand, and its table names the errors there are."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import httpx
from tests.client.running import running_service, tiny_text_bundle
from tests.encoding.importing.checkpoints import DIMS
from tests.server.service import settings

from bebr.core.filters import parse_filter
from bebr.core.types import FieldType
from bebr.server.pages.docs import all_errors

STATUS = ("state", "bytes", "sample", "collected", "detail", "version", "code", "recall_at_10", "queries")
PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def send_as_curl_does(client: httpx.Client, command: str, file: bytes) -> httpx.Response:
    """The request of a curl command of the page. `file`: what stands in the files that it names."""
    words = iter(shlex.split(command)[1:])
    method, url, headers, body = "", "", {}, b""
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word in ("-d", "--data-binary"):
            body = file if (given := next(words)).startswith("@") else given.encode()
        else:
            url = word
    return client.request(method or "POST", url.partition("localhost:8000")[2], headers=headers, content=body)


def test_the_examples_run(tmp_path: Path) -> None:
    tiny_text_bundle(settings(tmp_path).bundles_dir, tmp_path / "scratch", version="2")
    with (
        running_service(tmp_path / "data", bundles_dir=tmp_path / "bundles") as service,
        httpx.Client(base_url=service.url) as client,
    ):
        create, change, vectors, fit, write, search, ingest = blocks("sh")
        assert send_as_curl_does(client, create, b"").status_code == 200
        fields = send_as_curl_does(client, change, b"").json()["fields"]
        assert fields["published"] == {"type": "datetime", "state": "ready", "progress": 1}
        assert send_as_curl_does(client, vectors, b"").status_code == 200
        fit = fit.replace('"bytes": 64', f'"bytes": {DIMS // 2}')  # the real model has more dims
        assert set(send_as_curl_does(client, fit, b"").json()["fit"]) == set(STATUS)
        report = send_as_curl_does(client, write, b"").json()
        assert (report["applied"], report["rejected"]) == (2, 1) and report["items"][0]["error"] == "InvalidId"
        (python,) = blocks("python")
        python = python.replace("http://localhost:8000", service.url).replace("384", str(DIMS))
        names: dict[str, Any] = {}
        exec(python, names)
        assert client.post("/v1/collections/notes/points/count").json() == {"count": 1002}
        hits = send_as_curl_does(client, search, b"").json()["hits"]
        assert [hit["id"] for hit in hits] == ["b"]
        printf, curl = ingest.strip().split("\n")
        lines = "\n".join(word for word in shlex.split(printf) if word.startswith("{"))
        assert send_as_curl_does(client, curl, lines.encode()).status_code == 202


def test_the_filter_of_the_page_is_one() -> None:
    (shown,) = [block for block in blocks("json") if '"should"' in block]
    fields = {"lang": FieldType.KEYWORD, "year": FieldType.INTEGER, "tags": FieldType.KEYWORDS}
    assert parse_filter(json.loads(shown), fields).should


def test_the_table_of_errors_is_whole() -> None:
    of_no_route = {
        "BebrError",
        "InvalidRequest",
        "Unavailable",
        "Damaged",
        "InvalidEmbeddings",
        "InvalidCheckpoint",
        "WrongEventLoop",
        "LeafUnavailable",
        "ShardUnavailable",
    }
    table = PAGE[PAGE.index("| Status |") :]
    missing = [error.__name__ for error in all_errors() if f"`{error.__name__}`" not in table]
    assert set(missing) == of_no_route
