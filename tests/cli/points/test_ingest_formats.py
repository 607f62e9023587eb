"""`bebr ingest` as somebody uses it on the first afternoon: one command, a file of another program, a search."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from tests.cli.test_commands import run
from tests.client.running import running_service, tiny_text_bundle
from tests.waiting import wait_until

from bebr.client import Client

Printed = pytest.CaptureFixture[str]
PRODUCTS = """sku;title;description;price;category
l1;Harbour lamp;Brass, for ships;12.50;light
l2;Desk lamp;;7;light
g1;Oven glove;Cotton;4;kitchen
g2;Broken;;cheap;kitchen
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    bundles = tmp_path_factory.mktemp("bundles")
    for name, version in (("aaa", "1"), ("minilm", "9"), ("minilm", "10")):
        tiny_text_bundle(bundles, tmp_path_factory.mktemp("checkpoint"), name, version)
    with (
        running_service(tmp_path_factory.mktemp("service"), bundles_dir=bundles) as running,
        Client(running.url) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, service: Client):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("BEBR_URL", str(service._http.base_url))


@pytest.fixture(autouse=True)
def _emptied(service: Client) -> Iterator[None]:
    """Each test makes what it needs, and leaves nothing to those after it."""
    yield
    for collection in service.list_collections():
        service.delete_collection(collection["name"])


@pytest.fixture
def products(service: Client) -> str:
    fields = {"price": "float", "category": "keyword"}
    service.create_collection("products", bundle="minilm@10", filterable=fields)
    service.upsert("products", [{"id": "l1", "text": "Harbour lamp", "metadata": {"price": 12.5}}])
    return "products"


@pytest.fixture
def vectors(service: Client) -> str:
    service.create_collection("vectors", dims=16)
    return "vectors"


def test_products_with_prices_are_searched_after_one_command(service: Client, tmp_path: Path, capsys: Printed):
    file = tmp_path / "products.csv"
    file.write_text(PRODUCTS)
    command = ["ingest", str(file), "-c", "products", "--delimiter", ";", "--id-field", "sku"]
    command += ["--text-field", "title,description", "--filterable", "price=float,category=keyword"]
    assert run(*command) == 1
    shown = capsys.readouterr()
    assert "3 applied, 1 rejected" in shown.out and "line 5: InvalidMetadata: metadata field 'price'" in shown.err
    assert "created 'products' with minilm@10" in shown.err
    assert "products.csv: ids from 'sku', texts from 'title' and 'description', metadata: title, desc" in shown.err
    cheap = {"must": [{"key": "price", "range": {"lte": 10}}, {"key": "category", "match": {"value": "light"}}]}
    assert [hit.id for hit in service.search("products", "lamp", filter=cheap).hits] == ["l2"]
    assert run("search", "lamp", "-c", "products", "-f", "category=kitchen", "--json") == 0
    (hit,) = json.loads(capsys.readouterr().out)["hits"]
    assert hit["id"] == "g1" and hit["metadata"]["description"] == "Cotton"


def test_vectors_of_a_parquet_file_are_searched_after_one_command(service: Client, tmp_path: Path, capsys: Printed):
    vectors = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
    columns = {"id": [f"v{n}" for n in range(300)], "embedding": vectors.tolist(), "n": list(range(300))}
    for part in range(3):
        some = {name: values[part * 100 :][:100] for name, values in columns.items()}
        parquet.write_table(arrow.table(some), tmp_path / f"part-{part}.parquet")
    command = ["ingest", f"{tmp_path}/part-*.parquet", "-c", "vectors", "--filterable", "n=integer"]
    assert run(*command) == 0
    shown = capsys.readouterr()
    assert "300 applied, 0 rejected" in shown.out and "created 'vectors' for vectors of 16 dims" in shown.err
    assert "part-0.parquet and 2 more: ids from 'id', vectors from 'embedding', metadata: n" in shown.err
    late = {"must": [{"key": "n", "range": {"gte": 200}}]}
    for n in (200, 250, 299):
        assert service.search("vectors", vector=vectors[n], filter=late).hits[0].id == f"v{n}"


def test_rejected_rows_of_several_files_name_their_file(service: Client, vectors: str, tmp_path: Path, capsys: Printed):
    good, bad = [0.5] * 16, [0.5] * 3
    for name, rows in (("a", [good, bad]), ("b", [bad, good])):
        parquet.write_table(arrow.table({"id": [f"{name}0", f"{name}1"], "emb": rows}), tmp_path / f"{name}.parquet")
    np.save(tmp_path / "c.npy", np.ones((2, 3), np.float32))
    files = [str(tmp_path / name) for name in ("a.parquet", "b.parquet", "c.npy")]
    assert run("ingest", *files, "-c", vectors, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [(e["file"], e["line"]) for e in found["errors"]] == [
        *(("a.parquet", 2), ("b.parquet", 1)),
        *(("c.npy", 1), ("c.npy", 2)),
    ]
    assert found["applied"] == service.count(vectors) == 2 and all(
        e["error"] == "DimensionMismatch" for e in found["errors"]
    )
    assert run("ingest", *files, "-c", vectors) == 1
    assert "c.npy: row 2: DimensionMismatch" in capsys.readouterr().err


def test_keys_that_points_do_not_have_are_hinted_at(service: Client, tmp_path: Path, capsys: Printed):
    file = tmp_path / "a.jsonl"
    file.write_text('{"id": "a", "title": "A lamp", "price": 3}\n')
    assert run("ingest", str(file), "-c", "flat") == 1
    assert "the first one has id, title, price. --flat makes keys" in capsys.readouterr().err
    assert run("ingest", str(file), "-c", "flat", "--flat", "--text-field", "title") == 0
    assert service.get_point("flat", "a").metadata == {"price": 3}
    assert run("ingest", str(file), "-c", "flat") == 1
    assert "--flat keeps the keys" in capsys.readouterr().err


def test_detached_jobs_go_on(service: Client, tmp_path: Path, capsys: Printed):
    file = tmp_path / "a.txt"
    file.write_text("a lamp\na glove\n")
    assert run("ingest", str(file), "-c", "later", "--detach", "--json") == 0
    job = json.loads(capsys.readouterr().out)["job"]
    wait_until(lambda: service.get_job(job).ended, "the job")
    assert service.get_job(job).applied == 2


def test_texts_of_points_with_vectors_need_a_place(service: Client, vectors: str, tmp_path: Path, capsys: Printed):
    file = str(tmp_path / "a.parquet")
    parquet.write_table(arrow.table({"emb": [[0.5] * 16], "a": ["x"], "b": ["y"]}), file)
    for collection in (vectors, "new"):
        assert run("ingest", file, "-c", collection, "--text-field", "a,b") == 1
        assert "--text-field applies only where the collection keeps texts" in capsys.readouterr().err
    assert "new" not in [collection["name"] for collection in service.list_collections()]
    assert run("ingest", file, "-c", "new", "--text-field", "a,b", "--keep-text", "whole") == 0
    assert service.get_point("new", "1").metadata == {"a": "x", "b": "y", "whole": "x\ny"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bundle", "aaa@1"), "its texts are embedded by minilm@10, so --bundle 'aaa@1' does not apply"),
        (("--keep-text", "x"), "keeps no texts, so --keep-text 'x' does not apply"),
        (("--filterable", "price=integer"), "'price' is float in collection 'products'"),
        (("--filterable", "auto,a=bool"), "or auto alone, got 'auto'"),
        (("--filterable", "price"), "--filterable expects field=type"),
        (("--filterable", "price=money"), "--filterable price: expected one of keyword"),
        (("--filterable", "a=bool", "--filterable", "a=bool"), "names the field 'a' twice"),
        (("--flat",), "--flat applies to NDJSON and JSON, and not to"),
        (("--ids", "x"), "--ids applies to .npy"),
        (("--delimiter", "ab"), "--delimiter: expected one character"),
    ],
    ids=str,
)
def test_options_that_do_not_apply_are_refused(
    service: Client, products: str, tmp_path: Path, capsys: Printed, options: tuple[str, ...], message: str
):
    file = tmp_path / "products.csv"
    file.write_text("id,text\na,x\n")
    before = service.describe_collection(products)
    assert run("ingest", str(file), "-c", products, *options) == 1
    assert message in capsys.readouterr().err and service.describe_collection(products) == before


def test_what_the_collection_has_may_be_said_again(service: Client, products: str, tmp_path: Path, capsys: Printed):
    file = tmp_path / "products.csv"
    file.write_text("id,text,price\na,x,2\n")
    options = ("--bundle", "minilm@10", "--filterable", "price=float,year=integer")
    assert run("ingest", str(file), "-c", products, *options) == 0
    assert "added to the filterable fields of 'products': year" in capsys.readouterr().err
    assert service.describe_collection(products)["filterable"]["year"] == "integer"


def test_stdin_may_have_columns(service: Client, capsys: Printed, monkeypatch: pytest.MonkeyPatch):
    class Stdin:
        def __init__(self, content: bytes) -> None:
            import io

            self.buffer: Any = io.BufferedReader(io.BytesIO(content))  # type: ignore[arg-type]

    monkeypatch.setattr("sys.stdin", Stdin(b"id\ttext\tn\na\tone\t1\nb\ttwo\t2\n"))
    assert run("ingest", "-", "-c", "stdin", "--delimiter", "tab", "--filterable", "n=integer") == 0
    monkeypatch.setattr("sys.stdin", Stdin(b'{"id": "c", "body": "three", "n": 3}\n'))
    assert run("ingest", "-", "-c", "stdin", "--flat", "--text-field", "body") == 0
    monkeypatch.setattr("sys.stdin", Stdin(b'{"id": "d", "text": "four"}\n'))
    assert run("ingest", "-", "-c", "stdin") == 0
    assert service.count("stdin", {"must": [{"key": "n", "range": {"gte": 2}}]}) == 2 and service.count("stdin") == 4
