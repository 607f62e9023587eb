"""`bebr collection fit` against the real service."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from tests.cli.test_commands import run
from tests.client.running import running_service
from tests.encoding.quantization.embeddings import text_like

from bebr.client import Client
from bebr.core.codes import CodeSpec

SPEC = CodeSpec.parse("24x2")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_service(tmp_path_factory.mktemp("service")) as service, Client(service.url) as client:
        client.create_collection("docs", code=str(SPEC), filterable={"lang": "keyword"})
        yield service.url


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, url: str):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("BEBR_URL", url)


def test_fit_of_a_collection_waits_for_its_end(url: str, capsys: pytest.CaptureFixture[str]):
    rows = text_like(200, dims=24)
    with Client(url) as client:
        client.create_collection("own", fit={"bytes": 4, "sample": 150, "dims": 24})
        client.upsert_vectors("own", [f"p{n}" for n in range(130)], rows[:130])
        assert client.describe_collection("own")["fit"]["state"] == "collecting"
        assert run("collection", "fit", "own", "--sample", "140") == 0
        assert "130 of 140 points" in capsys.readouterr().out
        assert run("collection", "fit", "own", "--now", "--wait", "--json") == 0
        fit = json.loads(capsys.readouterr().out)["fit"]
        assert fit["state"] == "done" and fit["recall_at_10"] > 0
        assert client.describe_collection("own")["points_per_version"] == {fit["version"]: 130}
        assert run("collection", "fit", "own", "--now") == 1
        assert "0 are buffered" in capsys.readouterr().err
        client.fit_collection("own", sample=124)
        client.upsert_vectors("own", [f"p{n}" for n in range(124)], np.repeat(rows[:1], 124, axis=0))
        assert client.wait_fit("own")["state"] == "failed"
        client.upsert_vectors("own", [f"p{n}" for n in range(124)], rows[:124])
        assert run("collection", "fit", "own", "--bytes", "6", "--wait") == 0
        assert "6 bytes per point, recall@10" in capsys.readouterr().out
        assert run("collection", "fit", "own", "--rescore-bytes", "20") == 0
        capsys.readouterr()
        client.upsert_vectors("own", [f"p{n}" for n in range(124)], rows[:124])
        fit = client.wait_fit("own")
        assert fit["rescore_bytes"] == 20 and fit["rescored_recall_at_10"] > fit["recall_at_10"]
        assert run("collection", "fit", "own", "--rescore-bytes", "-1") == 2
        assert run("collection", "fit", "own", "--from", "codes", "--bytes", "4", "--wait", "--json") == 0
        fit = json.loads(capsys.readouterr().out)["fit"]
        assert (fit["state"], fit["bytes"], fit["rescore_bytes"]) == ("done", 4, 20)
        assert run("collection", "fit", "own", "--from", "texts") == 1
        assert "from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("docs", "--code", "8x4"), 2, "No such option"),
        (("docs", "--version", "2"), 2, "No such option"),
        (("docs", "rows.npy"), 2, "unexpected extra argument"),
        ((), 2, "Missing argument"),
        (("docs",), 1, "codes of your own"),
        (("absent",), 1, "no collection or alias"),
    ],
)
def test_wrong_options_of_a_fit(
    arguments: tuple[str, ...], code: int, message: str, capsys: pytest.CaptureFixture[str]
):
    assert run("collection", "fit", *arguments) == code
    assert message in capsys.readouterr().err
