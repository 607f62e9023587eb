"""The client against the real service: every operation, blocking and asynchronous, and the errors that come back."""

import asyncio
import gzip
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.client.running import running_service

import bebr
from bebr import errors
from bebr.client import Client, JobState
from bebr.core.codes import CodeSpec, pack_levels

SPEC = CodeSpec.parse("24x2")
EN = {"must": [{"key": "lang", "match": {"value": "en"}}]}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_service(tmp_path_factory.mktemp("service")) as service:
        yield service.url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, retries=0) as made:
        yield made


@pytest.fixture
def docs(client: Client) -> Iterator[str]:
    """A collection of 50 points with codes of their own."""
    client.create_collection("docs", code=str(SPEC), filterable={"lang": "keyword", "n": "integer"})
    client.upsert("docs", points(50))
    yield "docs"
    client.delete_collection("docs")


def codes(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return pack_levels(rng.integers(0, 4, (count, SPEC.dims)).astype(np.uint8), SPEC)


def points(count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"p{i:02d}", "code": code.tobytes(), "metadata": {"lang": ["en", "de"][i % 2], "n": i}}
        for i, code in enumerate(codes(count))
    ]


def test_collections_and_aliases(client: Client, docs: str):
    assert [collection["name"] for collection in client.list_collections()] == ["docs"]
    assert client.describe_collection("docs")["points"] == 50
    client.update_aliases([{"create": {"alias": "prod", "collection": "docs"}}])
    assert client.list_aliases() == {"prod": "docs"}
    assert client.count("prod") == 50
    client.update_aliases([{"delete": {"alias": "prod"}}])
    assert client.list_aliases() == {}
    with pytest.raises(errors.AlreadyExists):
        client.create_collection("docs", code="24x2")


def test_fields_change(client: Client, docs: str):
    changed = client.update_collection("docs", filterable={"n": "float", "lang": None})
    job = client.wait_job(changed["job"])
    assert job.state == JobState.SUCCEEDED and (job.total, job.rejected) == (50, 0)
    assert client.describe_collection("docs")["filterable"] == {"n": "float"}
    assert client.count("docs", {"must": [{"key": "n", "range": {"lt": 9.5}}]}) == 10
    changed = client.update_collection("docs", filterable="auto", recall=None)
    assert changed["auto_filterable"] and changed["recall"] is None and "job" not in changed
    client.update_collection("docs", filterable="declared")
    with pytest.raises(errors.InvalidOption):
        client.update_collection("docs")


def test_points_are_written_read_and_deleted(client: Client, docs: str):
    report = client.upsert("docs", [{"id": "p00", "code": codes(1)[0].tobytes()}, {"id": "x"}], mode="upsert")
    assert (report.applied, report.rejected) == (1, 1)
    assert (report.items[0].index, report.items[0].id) == (1, "x")
    found = client.get("docs", ["p01", "none", "p02"], with_code=True)
    assert [point.id for point in found.points] == ["p01", "p02"]
    assert found.missing == ["none"]
    assert found.points[0].metadata == {"lang": "de", "n": 1}
    assert (found.points[0].code or b"").startswith(codes(2)[1].tobytes())
    assert client.get_point("docs", "p03").metadata == {"lang": "de", "n": 3}
    assert client.count("docs", EN) == 24  # p00 lost its metadata
    assert client.set_metadata("docs", {"lang": "en"}, ["p00"]) == 1
    assert client.count("docs", EN) == 25
    assert client.delete("docs", filter=EN, dry_run=True) == 25
    assert client.delete("docs", filter=EN) == 25
    assert client.delete("docs", ["p01", "none"]) == 1
    assert client.count("docs") == 24
    with pytest.raises(errors.PointNotFound):
        client.get_point("docs", "p01")


def test_ids_with_special_characters_are_found(client: Client, docs: str):
    odd = "a/b c?d=é#%20"
    client.upsert("docs", [{"id": odd, "code": codes(1)[0].tobytes()}])
    assert client.get_point("docs", odd).id == odd


def test_a_write_that_is_repeated_with_its_key_applies_once(client: Client, docs: str):
    first = client.upsert("docs", points(3), idempotency_key="once")
    client.delete("docs", ["p00"])
    assert client.upsert("docs", points(3), idempotency_key="once") == first
    assert client.count("docs") == 49


def test_scrolling_meets_every_point_once(client: Client, docs: str):
    ids = [point.id for point in client.scroll("docs", page_points=7)]
    assert ids == [f"p{i:02d}" for i in range(50)]
    assert [p.metadata for p in client.scroll("docs", EN, with_metadata=False)] == [None] * 25


def test_search(client: Client, docs: str):
    code = codes(5)[4].tobytes()
    result = client.search("docs", code=code, limit=3, with_code=True)
    assert len(result) == 3
    best = next(iter(result))
    assert (best.id, best.metadata) == ("p04", {"lang": "en", "n": 4})
    assert best.score == pytest.approx(1, abs=1e-3)
    assert (best.code or b"").startswith(code)
    assert sum(result.searched.values()) == 50
    assert result.took_ms > 0
    similar = client.search("docs", id="p04", limit=2, scorer="hamming", filter=EN, with_metadata=["n"], explain=True)
    assert all(hit.metadata is not None and set(hit.metadata) == {"n"} for hit in similar)
    assert all(hit.distance is not None for hit in similar)
    assert similar.explain
    batch = client.search_batch("docs", [{"code": code, "limit": 1}, {"id": "p07", "limit": 2}])
    assert [len(one) for one in batch] == [1, 2]
    assert batch[0].hits[0].id == "p04"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda c: c.search("none", code=b"x"), errors.CollectionNotFound),
        (lambda c: c.search("docs"), errors.InvalidOption),
        (lambda c: c.search("docs", "text"), errors.InvalidRequest),
        (lambda c: c.search("docs", code=b"short"), errors.InvalidRequest),
        (lambda c: c.search("docs", code=bytes(6), limit=0), errors.InvalidOption),
        (lambda c: c.search("docs", code=bytes(6), limti=1), errors.InvalidOption),
        (
            lambda c: c.search("docs", id="p00", filter={"must": [{"key": "nope", "match": {"value": 1}}]}),
            errors.InvalidFilter,
        ),
        (lambda c: c.delete("docs"), errors.InvalidRequest),
        (lambda c: c.create_collection("x", code="24x3"), errors.InvalidSpec),
        (lambda c: c.create_collection("x", bundle="none@1"), errors.BundleNotFound),
        (lambda c: c.get_job("none"), errors.JobNotFound),
        (lambda c: c.upsert("docs", [{"id": "a"}], mode="sideways"), errors.InvalidOption),
    ],
)
def test_errors_come_back_as_the_classes_that_the_service_raised(client: Client, docs: str, call, error):
    with pytest.raises(error) as raised:
        call(client)
    assert raised.value.detail


def test_ingestion_from_a_file_and_from_an_iterable(client: Client, docs: str, tmp_path: Path):
    import base64

    def line(point: dict[str, Any]) -> str:
        return json.dumps(
            {**{k: v for k, v in point.items() if k != "code"}, "code_b64": base64.b64encode(point["code"]).decode()}
        )

    new = [{**point, "id": f"n{i}"} for i, point in enumerate(points(30))]
    path = tmp_path / "points.ndjson"
    path.write_text("\n".join([*map(line, new[:10]), "{broken", *map(line, new[10:])]))
    seen: list[Any] = []
    sent: list[int] = []
    job = client.ingest("docs", path, progress=seen.append, sent=sent.append)
    assert (job.state, job.applied, job.rejected) == (JobState.SUCCEEDED, 30, 1)
    assert seen[-1] == job
    assert sent[-1] == path.stat().st_size
    assert [error["line"] for error in client.job_errors(job.id)] == [11]
    packed = tmp_path / "points.ndjson.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert client.ingest("docs", str(packed)).applied == 30
    assert client.ingest("docs", ({**point, "id": f"m{i}"} for i, point in enumerate(points(20)))).applied == 20
    assert client.count("docs") == 100
    waiting = client.ingest("docs", new, mode="insert_only", wait=False)
    assert client.wait_job(waiting.id).ended
    assert {job.id, waiting.id} <= {known.id for known in client.list_jobs()}
    assert client.cancel_job(job.id).state is JobState.SUCCEEDED
    with pytest.raises(errors.InvalidOption, match="there is no file"):
        client.ingest("docs", tmp_path / "missing.ndjson")


async def test_the_asynchronous_client_does_the_same(url: str, tmp_path: Path):
    async with bebr.AsyncClient(url) as client:
        await client.check_ready()
        await client.create_collection("async", code=str(SPEC))
        report = await client.upsert("async", points(50))
        assert report.applied == 50
        results = await asyncio.gather(*(client.search("async", code=bytes(code), limit=1) for code in codes(20)))
        assert [result.hits[0].id for result in results] == [f"p{i:02d}" for i in range(20)]
        assert [p.id async for p in client.scroll("async", page_points=20)] == [f"p{i:02d}" for i in range(50)]
        job = await client.ingest("async", ({**point, "id": f"m{i}"} for i, point in enumerate(points(20))))
        assert job.applied == 20
        with pytest.raises(errors.CollectionNotFound):
            await client.count("none")
        await client.delete_collection("async")


def test_both_clients_have_the_same_methods():
    def methods(kind: type) -> dict[str, list[str]]:
        public = [name for name in vars(kind) if not name.startswith("_")]
        return {name: list(inspect.signature(getattr(kind, name)).parameters) for name in public}

    assert methods(Client) == methods(bebr.AsyncClient)
    assert all(inspect.getdoc(getattr(Client, name)) for name in methods(Client) if name != "close")


def test_keys_are_sent_and_their_lack_is_named(tmp_path: Path):
    with running_service(tmp_path, api_keys=("secret",), read_only_api_keys=("reader",)) as service:
        with Client(service.url, api_key="secret") as client:
            client.create_collection("docs", code="8x1")
        with Client(service.url, api_key="reader") as client:
            assert client.count("docs") == 0
            with pytest.raises(errors.Forbidden):
                client.delete_collection("docs")
        for key in (None, "wrong"):
            with Client(service.url, api_key=key) as client, pytest.raises(errors.Unauthorized):
                client.list_collections()


def test_an_asynchronous_client_serves_one_event_loop(url: str) -> None:
    """What another loop opened is no use in this one; it is said before anything is sent."""
    client = bebr.AsyncClient(url)

    async def twice() -> None:
        await client.list_collections()
        await asyncio.gather(client.list_collections(), client.list_bundles())
        await client.close()

    asyncio.run(twice())
    for use in (client.list_collections, client.close, lambda: anext(client.scroll("any"))):

        async def again(use: Any = use) -> None:
            await use()

        with pytest.raises(errors.WrongEventLoop, match="an AsyncClient per event loop") as caught:
            asyncio.run(again())
        assert isinstance(caught.value, RuntimeError)
