"""`bebr export`, `import` and `copy`: what comes in elsewhere answers as what went out."""

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.test_commands import run
from tests.client.running import running_service
from tests.encoding.quantization.embeddings import text_like
from tests.engine.two_models import text_bundle
from tests.servers import ServerKind, running_server

from bebr.cli.files.exports import writing
from bebr.client import Client
from bebr.core.codes import CodeSpec, pack_levels
from bebr.errors import AlreadyExists, Conflict, InvalidOption, NotReady

Printed = pytest.CaptureFixture[str]
SPEC = CodeSpec.parse("24x2")
FIELDS = {"lang": "keyword", "year": "integer", "price": "float", "ok": "bool", "tags": "keyword[]"}
ROWS = text_like(200, dims=24)
TEXTS = ["a harbour", "the oven", "late trains", "bread and yeast", "a storm at sea"]
NAMES = ("codes", "own", "two", "buffered")


def metadata(n: int) -> dict[str, Any]:
    filtered = {
        "lang": "en" if n % 3 else "de",
        "year": 2**53 + n,
        "price": n / 7,
        "ok": n % 2 == 0,
        "tags": ["a", "ü"],
    }
    return {**filtered, "free": {"deep": [1, 2.5, None, 1e300]}} if n % 5 else {"lang": "en"}


def fill(client: Client) -> None:
    """Collections with codes of every kind: own ones, fitted ones with rescore codes, of two models, and embeddings."""
    levels = np.random.default_rng(0).integers(0, 4, (200, SPEC.dims)).astype(np.uint8)
    client.create_collection("codes", code=str(SPEC), filterable=FIELDS, shards=3, recall=None)
    codes = pack_levels(levels, SPEC)
    client.upsert("codes", [{"id": f"ü{n}", "code": codes[n].tobytes(), "metadata": metadata(n)} for n in range(200)])
    for name, fit in (("own", {"bytes": 4, "rescore_bytes": 20, "sample": 150}), ("buffered", {"bytes": 4})):
        client.create_collection(name, fit={**fit, "dims": 24}, filterable=FIELDS, shards=1)
        client.upsert_vectors(name, [f"p{n}" for n in range(200)], ROWS, [metadata(n) for n in range(200)])
    client.fit_collection("own", now=True)
    client.wait_fit("own")
    client.fit_collection("own", sample=150)
    client.upsert_vectors("own", [f"p{n}" for n in range(20)], ROWS[:20])  # some wait for another fit
    client.create_collection("two", bundle="old@1", text_field="body", filterable=FIELDS)
    client.upsert("two", [{"id": f"t{n}", "text": f"{TEXTS[n % 5]} {n}", "metadata": metadata(n)} for n in range(60)])
    client.attach_version("two", "new@1")
    client.evaluate_version("two", "new@1", sample=20)
    client.promote_version("two", "new@1", force=True)
    client.upsert("two", [{"id": f"t{n}", "text": f"{TEXTS[n % 5]} {n}"} for n in range(0, 60, 2)])
    client.update_aliases([{"create": {"alias": "prod", "collection": "own"}}])


def answers(client: Client, name: str, where: str | None = None) -> list[list[tuple[Any, ...]]]:
    """What searches of every mode answer. where: the collection, if it has another name."""
    found = []
    some = {"must": [{"key": "lang", "match": {"value": "en"}}, {"key": "year", "range": {"gte": 2**53 + 5}}]}
    queries: list[dict[str, Any]] = [{"id": "ü7" if name == "codes" else "t7" if name == "two" else "p7"}]
    if name == "two":
        queries += [{"text": text} for text in TEXTS]
    elif name != "codes":
        queries += [{"vector": ROWS[n] + 0.1} for n in range(5)]
    ways: list[dict[str, Any]] = [{}, {"scorer": "sdc"}, {"filter": some}, {"group_by": "lang"}, {"exact": True}]
    if name == "codes":
        ways.append({"scorer": "hamming"})
    if name == "own":
        ways += [{"rescore": True}, {"rescore": False}, {"rescore": {"candidates": 20}}]
    for query in queries:
        for way in ways:
            result = client.search(where or name, **query, **way, limit=15, with_code=True)
            found.append([(hit.id, hit.score, hit.metadata, hit.code, hit.distance) for hit in result.hits])
    return found


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    text_bundle(folder, "new@1", seed=1, old=text_bundle(folder, "old@1", seed=0))
    return folder


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, bundles: Path) -> Iterator[Client]:
    with (
        running_service(tmp_path_factory.mktemp("here"), bundles_dir=bundles) as running,
        Client(running.url) as client,
    ):
        fill(client)
        yield client


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory, bundles: Path) -> Iterator[Client]:
    bundles = shutil.copytree(bundles, tmp_path_factory.mktemp("there") / "bundles")
    with (
        running_service(tmp_path_factory.mktemp("there"), bundles_dir=bundles) as running,
        Client(running.url) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, here: Client):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("BEBR_URL", url(here))


def url(client: Client) -> str:
    return str(client._http.base_url)


@pytest.mark.parametrize("ending", ["ndjson", "ndjson.gz", "parquet"])
@pytest.mark.parametrize("name", NAMES)
def test_an_imported_collection_answers_as_the_exported_one(
    here: Client, there: Client, tmp_path: Path, name: str, ending: str, capsys: Printed
):
    file = str(tmp_path / f"a.{ending}")
    expected, before = answers(here, name), here.describe_collection(name)
    assert run("export", name, file) == 0
    assert f"exported {before['points']} points of '{name}'" in capsys.readouterr().out
    assert run("import", file, "--url", url(there)) == 0
    after = there.describe_collection(name)
    same = ("points", "filterable", "text_field", "recall", "code", "bundle", "takes", "points_per_version")
    assert {key: after[key] for key in same} == {key: before[key] for key in same}
    assert answers(there, name) == expected
    assert run("import", file, "--url", url(there)) == 1
    assert f"'{name}' is a collection already" in capsys.readouterr().err
    again = str(tmp_path / f"b.{ending}")
    assert run("export", name, again, "--url", url(there)) == 0
    if ending == "ndjson":
        points = [Path(path).read_bytes().split(b"\n")[1:] for path in (file, again)]
        assert points[0] == points[1]
    there.delete_collection(name)
    assert answers(here, name) == expected


@pytest.mark.parametrize("name", ["own", "two"])
def test_a_copy_within_a_service_stands_alone(here: Client, name: str, capsys: Printed):
    expected = answers(here, name)
    assert run("copy", name, "-c", f"{name}-2") == 0
    assert answers(here, name, f"{name}-2") == expected
    versions = here.list_versions(f"{name}-2")
    own = [version["id"] for version in versions["versions"] if version["id"].startswith("own-")]
    assert all(f"own-{name}-2-" in version for version in own) and bool(own) == (name == "own")
    here.delete_collection(f"{name}-2")
    assert answers(here, name) == expected
    assert run("copy", name) == 1
    assert "nothing would be copied" in capsys.readouterr().err


def test_aliases_come_along_where_that_is_wanted(here: Client, there: Client, tmp_path: Path):
    assert run("copy", "prod", "--to", url(there)) == 0 and there.list_aliases() == {}
    there.delete_collection("own")
    assert run("copy", "prod", "--to", url(there), "--aliases") == 0
    assert there.list_aliases() == {"prod": "own"} and answers(there, "own", "prod") == answers(here, "own")
    there.delete_collection("own")


def test_from_sqlite_to_redis_and_back(
    here: Client, bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
):
    monkeypatch.setenv("BEBR_MIN_FREE_DISK_BYTES", "0")
    monkeypatch.setenv("BEBR_BUNDLES_DIR", str(shutil.copytree(bundles, tmp_path / "bundles")))
    with running_server(ServerKind.VALKEY) as server:
        assert run("copy", "own", "--to", server.url) == 0
        assert run("copy", "own", "--from", server.url, "--to", str(tmp_path / "data")) == 0
        assert run("copy", "own", "-c", "third", "--from", str(tmp_path / "data")) == 0
    assert answers(here, "own", "third") == answers(here, "own")
    here.delete_collection("third")
    assert run("copy", "own", "--from", str(tmp_path / "none")) == 1
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["ndjson", "ndjson.gz", "parquet"])
def test_damaged_files_are_refused_with_the_place(
    here: Client, there: Client, tmp_path: Path, ending: str, capsys: Printed
):
    file = tmp_path / f"a.{ending}"
    assert run("export", "codes", str(file)) == 0
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    cuts = [0, 1, 50, *rng.integers(60, len(whole) - 1, 6), len(whole) - 1]
    flips = rng.integers(0, len(whole) - 8, 12)
    for content in [whole[:cut] for cut in cuts] + [_flipped(whole, at) for at in flips]:
        file.write_bytes(content)
        capsys.readouterr()
        code = run("import", str(file), "--url", url(there))
        said = capsys.readouterr().err
        if code:
            assert said.startswith("error: a.") and said.count("\n") == 1
        else:  # in a field of gzip or Parquet that nothing reads
            assert ending != "ndjson" and answers(there, "codes") == answers(here, "codes")
            there.delete_collection("codes")
        assert there.list_collections() == []


def _flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]


def test_lines_that_are_missing_doubled_or_moved_are_noticed(
    here: Client, there: Client, tmp_path: Path, capsys: Printed
):
    file = tmp_path / "a.ndjson"
    assert run("export", "codes", str(file)) == 0
    head, *points, end = file.read_bytes().splitlines(keepends=True)
    for lines, said in (
        ([head, *points[1:], end], "says that there are 200 points, got 199"),
        ([head, points[0], *points, end], "is not in the order of ids"),
        ([head, points[1], points[0], *points[2:], end], "is not in the order of ids"),
        ([head, *points], "is cut off after line 201, which is point 200"),
        ([head, *points, end, points[0]], "line 203 comes after the end"),
        ([*points, end], "is no export of bebr"),
        ([b'{"id": "a", "text": "x"}\n'], "or the file is no export of bebr"),
    ):
        file.write_bytes(b"".join(lines))
        capsys.readouterr()
        assert run("import", str(file), "--url", url(there)) == 1
        assert said in capsys.readouterr().err
    assert there.list_collections() == []


def test_a_service_without_the_bundles_refuses_the_collection(
    here: Client, bundles: Path, tmp_path: Path, capsys: Printed
):
    other = tmp_path / "bundles"
    text_bundle(other, "new@1", seed=5)
    with running_service(tmp_path / "data", bundles_dir=other) as running, Client(running.url) as client:
        assert run("copy", "two", "--to", running.url) == 1
        assert "needs the bundle" in capsys.readouterr().err
        assert client.list_collections() == []


def test_what_no_service_wrote_is_refused(here: Client, there: Client, tmp_path: Path):
    definition = here.get_definition("own")
    version = definition["collection"]["versions"][0]
    other = json.loads(json.dumps(definition))
    name, kept = next(iter(other["binarizers"].items()))
    for change in (
        {"format": 2},
        {"binarizers": {}},
        {"binarizers": {name: {**kept, "graph": "AAAA"}}},
        {"binarizers": {name: {**kept, "steps": [1.0] * 9}}},
        {"collection": {}},
        {"collection": {**definition["collection"], "active": 99}},
        {"collection": {**definition["collection"], "shards": 0}},
        {"collection": {**definition["collection"], "surprise": 1}},
        {"collection": {**definition["collection"], "filterable": {"a": "money"}}},
        {"collection": {**definition["collection"], "versions": []}},
        {"collection": {**definition["collection"], "versions": [{**version, "code": "1x1"}]}},
        {"calibrations": [{"from": "a"}]},
    ):
        answer = there._http.put("/v1/collections/odd/definition", json=definition | change)
        assert answer.status_code in (400, 422), (change.keys(), answer.text)
    assert there.list_collections() == [] and there.list_bundles() == here_bundles(there)
    there.create_from_definition("odd", definition)
    (point, *_) = here.export_page("own", limit=1)["points"]
    wrong = [
        {**point, "version_number": 99},
        {**point, "code_b64": point["code_b64"][:8]},
        {**point, "metadata": 7},
        {**point, "id": 7},
        {**point, "text": "x"},
        {"id": "a"},
        point,
        point,
    ]
    report = there.import_points("odd", wrong)
    assert report.applied == 1 and [item.index for item in report.items] == [0, 1, 2, 3, 4, 5, 7]
    there.delete_collection("odd")


def test_an_import_that_names_itself_answers_nothing_before_it_is_whole(here: Client, there: Client):
    definition, points = here.get_definition("codes"), here.export_page("codes", limit=30)["points"]
    there.create_from_definition("part", definition, import_id="one")
    assert there.import_points("part", points[:20], import_id="one").applied == 20
    assert there.describe_collection("part")["status"] == "importing"
    with pytest.raises(NotReady, match="'part' is not whole"):
        there.import_points("part", points)
    there.create_from_definition("part", definition, import_id="two")
    for last in (False, True):
        with pytest.raises(Conflict, match="another one has taken its place"):
            there.import_points("part", points[20:], import_id="one", last=last)
    wrong = there.import_points("part", [*points[5:], {"id": "odd"}], import_id="two", last=True)
    assert len(wrong.items) == 1 and there.describe_collection("part")["status"] == "importing"
    for _ in range(2):  # its answer may be lost
        there.import_points("part", [], import_id="two", last=True)
        assert there.export_page("part")["points"] == points[5:]
    with pytest.raises(AlreadyExists):
        there.create_from_definition("part", definition, import_id="three")
    with pytest.raises(Conflict, match="another one has taken its place"):
        there.import_points("part", points, import_id="one")
    with pytest.raises(InvalidOption, match="give its 'import_id' too"):
        there.import_points("part", points, last=True)
    assert there.get_definition("part")["collection"] == definition["collection"]
    there.delete_collection("part")


def here_bundles(client: Client) -> list[dict[str, Any]]:
    """Those that are not of a collection."""
    return [bundle for bundle in client.list_bundles() if not bundle["name"].startswith("own-")]


def test_a_file_is_whole_or_not_there(here: Client, tmp_path: Path, capsys: Printed):
    file = tmp_path / "a.ndjson.gz"
    assert run("export", "none", str(file)) == 1 and not file.exists()
    assert run("export", "codes", str(tmp_path / "a.zip")) == 1
    assert "expected a file that ends in" in capsys.readouterr().err
    assert run("export", "codes", str(file)) == 0
    with gzip.open(file) as unpacked:
        assert json.loads(unpacked.readline())["definition"]["name"] == "codes"


@pytest.mark.parametrize("ending", ["ndjson", "ndjson.gz", "parquet"])
def test_an_export_that_is_cut_short_leaves_nothing(tmp_path: Path, ending: str):
    point = {"id": "a", "version_number": 1, "code_b64": "AAAA", "metadata": {}}
    with pytest.raises(ConnectionError), writing(tmp_path / f"a.{ending}", {"name": "a"}) as export:
        export.add([point])
        raise ConnectionError
    assert list(tmp_path.iterdir()) == []
