"""The demo: filled once, continued where it stopped, and searched through the command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.cli.test_commands import run
from tests.client.running import running_service, tiny_text_bundle

from bebr.cli.server.demo import _hints
from bebr.client import Client
from bebr.config import Settings
from bebr.demo import fill
from bebr.errors import BebrError


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    tiny_text_bundle(folder / "bundles", tmp_path_factory.mktemp("checkpoint"))
    return folder


@pytest.fixture(scope="module")
def url(data_dir: Path) -> Iterator[str]:
    with running_service(data_dir) as service:
        yield service.url


@pytest.fixture(scope="module")
def filled(url: str, data_dir: Path) -> Path:
    """The note of a fill that was interrupted once and then finished."""
    note = data_dir / "note"
    with Client(url) as client:
        assert not fill.is_filled(client, note)

        def interrupt(done: int, total: int) -> None:
            assert total == 300
            if done >= fill.BATCH_POINTS:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fill.fill(client, note, 300, interrupt)
        assert client.count(fill.COLLECTION) == fill.BATCH_POINTS
        assert not fill.is_filled(client, note)
        seen: list[int] = []
        assert fill.fill(client, note, 300, lambda done, total: seen.append(done)) == 300
        assert seen == [128, 256, 300]
    return note


def test_a_finished_fill_is_not_repeated(url: str, filled: Path):
    with Client(url) as client:
        assert fill.is_filled(client, filled)
        assert client.count(fill.COLLECTION) == 300
        assert client.count(fill.COLLECTION, {"must": [{"key": "package", "match": {"value": "python"}}]}) == 225


def test_a_fill_whose_collection_is_gone_is_not_finished(tmp_path: Path, filled: Path):
    with running_service(tmp_path) as service, Client(service.url) as client:
        assert not fill.is_filled(client, filled)
        with pytest.raises(BebrError, match="no embedding model"):
            fill.fill(client, tmp_path / "note", 10)


def test_search_prints_a_table(url: str, filled: Path, capsys: pytest.CaptureFixture[str]):
    assert run("search", "parse a date", "--url", url, "--limit", "5", "--filter", "kind=method") == 0
    head, *hits, foot = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["score", "id"]
    assert head.split()[-1] == "summary"
    assert len(hits) == 5
    assert all("method" in hit for hit in hits)
    assert "5 hits in" in foot
    assert "300 points of minilm@1" in foot


def test_search_prints_json(url: str, filled: Path, capsys: pytest.CaptureFixture[str]):
    assert (
        run("search", "parse a date", "--url", url, "-n", "3", "--scorer", "hamming", "--show", "kind", "--json") == 0
    )
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["hits"]) == 3
    assert all(set(hit["metadata"]) == {"kind"} for hit in shown["hits"])
    assert shown["searched"] == {"minilm@1": 300}


def test_a_search_without_hits_says_so(url: str, filled: Path, capsys: pytest.CaptureFixture[str]):
    assert run("search", "x", "--url", url, "--filter", "kind=nothing") == 0
    assert capsys.readouterr().out.startswith("0 hits")


def test_ingest_creates_the_collection_that_a_bundle_is_named_for(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"the quick fox jumps {i} times\n" for i in range(40)))
    for _ in range(2):
        assert run("ingest", str(file), "-c", "foxes", "--bundle", "minilm@1", "--url", url) == 0
    assert "40 applied, 0 rejected" in capsys.readouterr().out
    with Client(url) as client:
        assert client.count("foxes") == 40
        assert len(client.search("foxes", "fox", limit=3)) == 3


def test_embeddings_and_vectors(url: str):
    with Client(url) as client:
        client.create_collection("vectors", bundle="minilm@1")
        embeddings = client.embed([f"{word} fox" for word in "abcdefgh"], model="minilm@1")
        assert embeddings.shape == (8, 32)
        assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
        ids = list("abcdefgh")
        vectors = np.random.default_rng(1).standard_normal((8, 32))
        report = client.upsert_vectors("vectors", ids, vectors, [{"word": word} for word in ids], batch_points=3)
        assert (report.applied, report.rejected) == (8, 0)
        assert [client.search("vectors", vector=row, limit=1).hits[0].id for row in vectors] == ids
        assert client.search("vectors", vector=vectors[2].tolist(), limit=1).hits[0].metadata == {"word": "c"}
        bad = vectors.copy()
        bad[1, 3] = np.nan
        report = client.upsert_vectors("vectors", ids, bad)
        assert (report.applied, [(item.index, item.error) for item in report.items]) == (7, [(1, "InvalidVector")])
        client.delete_collection("vectors")


def test_the_hints_can_be_pasted():
    assert "--url" not in _hints("http://127.0.0.1:8000", Settings(), 10)
    shown = _hints("http://127.0.0.1:9000", Settings(api_keys=("s3cret",)), 10)
    assert 'bebr search "parse a date" --url http://127.0.0.1:9000' in shown
    assert "s3cret" not in shown
