"""An upgrade through the client, blocking and asynchronous, against the real service."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.client.running import service_of_two_models
from tests.engine.two_models import texts

import bebr
from bebr import errors
from bebr.client import Client, Job, JobState

TEXTS = texts(60)
IDS = [f"p{n:02d}" for n in range(len(TEXTS))]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with service_of_two_models(tmp_path_factory.mktemp("two")) as service:
        yield service.url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, retries=0) as made:
        yield made


@pytest.fixture
def docs(client: Client) -> Iterator[str]:
    client.create_collection("docs", bundle="old@1", text_field="text")
    client.upsert("docs", points())
    yield "docs"
    client.delete_collection("docs")


def points() -> list[dict[str, Any]]:
    return [{"id": name, "text": text} for name, text in zip(IDS, TEXTS, strict=True)]


def test_an_upgrade_from_the_first_step_to_the_last(client: Client, docs: str):
    attached = client.attach_version("docs", "new@1")
    assert [version["id"] for version in attached["versions"]] == ["old@1", "new@1"]
    with pytest.raises(errors.Conflict, match="was not evaluated"):
        client.promote_version("docs", "new@1")
    measured = client.evaluate_version("docs", sample=20, points=50, seed=3)
    assert (measured["version"], measured["queries"], measured["points"]) == ("new@1", 20, 50)
    with pytest.raises(errors.Conflict) as refused:
        client.promote_version("docs", "new@1", min_gain=2.0)
    assert refused.value.fields["min_gain"] == 2.0
    assert refused.value.fields["evaluation"]["gain"] == measured["gain"]
    event = client.promote_version("docs", "new@1", min_gain=2.0, force=True, adapter="linear")
    assert (event["to"], event["forced"], event["adapter"]) == ("new@1", True, "linear")
    found = client.search("docs", TEXTS[7], limit=1)
    assert (found.query_version, found.searched) == ("new@1", {"old@1": 60})
    job = client.backfill("docs", rate_limit=10_000)
    seen: list[Job] = []
    ended = client.wait_job(job, progress=seen.append)
    assert (ended.state, ended.applied, ended.total, ended.remaining) == (JobState.SUCCEEDED, 60, 60, 0)
    assert seen[-1] == ended
    retired = client.retire_version("docs", "old@1")
    assert [version["retired"] for version in retired["versions"]] == [True, False]
    assert client.list_versions("docs") == retired
    with pytest.raises(errors.Conflict, match="no promotion to undo"):
        client.rollback_version("docs")


def test_judged_queries_may_bring_a_text_or_vectors(client: Client, docs: str):
    client.attach_version("docs", "new@1")
    asked = [{"text": TEXTS[n], "relevant": [IDS[n]]} for n in range(5)]
    assert client.evaluate_version("docs", "new@1", queries=asked)["judged"]
    rows = np.random.default_rng(0).standard_normal((5, 2, 32)).astype(np.float32)
    given = [{"vectors": {"old@1": old, "new@1": new}, "relevant": {IDS[n]: 2.0}} for n, (old, new) in enumerate(rows)]
    measured = client.evaluate_version("docs", "new@1", queries=given, points=40, adapter="linear")
    assert (measured["measure"], measured["adapter"]) == ("ndcg_at_10", "linear")
    with pytest.raises(errors.InvalidOption, match="not both"):
        client.evaluate_version("docs", "new@1", queries=asked, sample=5)


def test_a_rollback_finds_what_was_written_since(client: Client, docs: str):
    client.attach_version("docs", "new@1")
    client.promote_version("docs", "new@1", force=True)
    client.upsert("docs", [{"id": "late", "text": "lazy fox of binary codes"}])
    assert client.rollback_version("docs")["to"] == "old@1"
    found = client.search("docs", "lazy fox of binary codes", limit=1)
    assert (found.query_version, found.hits[0].id, found.hits[0].version) == ("old@1", "late", "new@1")


def test_a_backfill_is_paused_resumed_and_cancelled(client: Client, docs: str):
    client.attach_version("docs", "new@1")
    client.promote_version("docs", "new@1", force=True)
    job = client.backfill("docs", "new@1", rate_limit=1)  # it would take a minute
    assert client.pause_job(job).state is JobState.PAUSED
    states: list[str] = []

    def look(seen: Job) -> None:
        states.append(seen.state)
        if states == ["paused"] * 3:
            client.resume_job(job)
        if states[3:] == ["running"] * 2:
            client.cancel_job(job)

    assert client.wait_job(job, progress=look, poll_seconds=0.01).state is JobState.CANCELLED
    assert states == ["paused"] * 3 + ["running"] * 2 + ["cancelled"]
    with pytest.raises(errors.Conflict):
        client.resume_job(job)


def test_vectors_of_the_new_model_replace_codes_in_pages(client: Client, docs: str):
    client.attach_version("docs", "new@1")
    client.promote_version("docs", "new@1", force=True)
    vectors = client.embed(TEXTS[:25], model="new@1")
    report = client.backfill_vectors("docs", "new@1", [*IDS[:24], "nobody"], vectors, batch_points=10)
    assert (report.applied, report.rejected) == (24, 1)
    assert (report.items[0].index, report.items[0].error) == (24, "PointNotFound")
    assert client.describe_collection("docs")["points"] == 60
    assert client.get_point("docs", "p03").version == "new@1"
    with pytest.raises(errors.Incompatible, match="declared as 'old@1'"):
        client.backfill_vectors("docs", "old@1", IDS[:2], vectors[:2])


def test_writes_may_declare_their_version(client: Client, docs: str):
    vectors = client.embed(TEXTS[:3], model="old@1")
    assert client.upsert_vectors("docs", IDS[:3], vectors, version="old@1").applied == 3
    given = [{"id": "x", "vector": vectors[0]}]
    assert client.upsert("docs", given, version="old@1").applied == 1
    for write in (
        lambda: client.upsert("docs", given, version="new@1"),
        lambda: client.upsert_vectors("docs", IDS[:3], vectors, version="new@1"),
    ):
        with pytest.raises(errors.Incompatible):
            write()


def test_what_takes_long_is_waited_for(url: str, client: Client, docs: str):
    with Client(url, retries=0, timeout_seconds=0.01) as hasty:
        hasty.attach_version("docs", "new@1")
        assert hasty.evaluate_version("docs", sample=50, points=60)["queries"] == 50


async def test_the_asynchronous_client_upgrades_as_well(url: str):
    async with bebr.AsyncClient(url) as client:
        await client.create_collection("later", bundle="old@1", text_field="text")
        await client.upsert("later", points())
        await client.attach_version("later", "new@1")
        await client.evaluate_version("later", sample=10)
        await client.promote_version("later", "new@1", min_gain=-1.0)
        job = await client.wait_job(await client.backfill("later", rate_limit=1000))
        assert (job.state, job.applied) == ("succeeded", 60)
        assert (await client.list_versions("later"))["active"] == "new@1"
        await client.delete_collection("later")
