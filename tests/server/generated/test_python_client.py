"""A client that a public generator makes from the document does what users do with it."""

import importlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PACKAGE = "generated_bebr"
CONFIG = {"post_hooks": [], "content_type_overrides": {"application/x-ndjson": "application/octet-stream"}}
"""The generator knows no NDJSON; docs/api.md shows the second entry."""


@pytest.fixture(scope="module")
def generated(document: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Name of the package that was generated."""
    folder = tmp_path_factory.mktemp("generated")
    config = folder / "generator.json"
    config.write_text(json.dumps(CONFIG))
    command = [
        "generate",
        "--path",
        document,
        "--output-path",
        folder / PACKAGE,
        "--meta",
        "none",
        "--config",
        config,
    ]
    run = subprocess.run([sys.executable, "-m", "openapi_python_client", *command], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "WARNING" not in run.stdout + run.stderr, run.stdout
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield PACKAGE


def call(package: str, path: str) -> Any:
    """The function of an operation, as in 'points.write_points'."""
    return importlib.import_module(f"{package}.api.{path}").sync


def test_create_upsert_search_and_delete(generated: str, url: str) -> None:
    models = importlib.import_module(f"{generated}.models")
    with importlib.import_module(generated).Client(url, raise_on_unexpected_status=True) as client:
        use(generated, models, client)


def use(generated: str, models: Any, client: Any) -> None:
    tags, lang = models.FieldType.KEYWORD_LIST, models.FieldType.KEYWORD
    filterable = models.CreateCollectionFilterableType0.from_dict({"tags": tags, "lang": lang})
    create = models.CreateCollection(bundle="tiny@1", filterable=filterable)
    made = call(generated, "collections.create_collection")("docs", client=client, body=create)
    assert isinstance(made, models.Collection)
    assert made.filterable.to_dict() == {"tags": "keyword[]", "lang": "keyword"}
    metadata = models.PointMetadataType0.from_dict
    points = [
        models.Point(id="a", text="a quick brown fox", metadata=metadata({"lang": "en", "tags": ["x", "y"]})),
        models.Point(id="b", text="parse a date", metadata=metadata({"lang": "de"})),
        models.Point(id="c", text="binary codes"),
    ]
    write = call(generated, "points.write_points")
    report = write("docs", client=client, body=models.WritePoints(points=points))
    assert (report.applied, report.rejected, report.items) == (3, 0, [])
    again = write("docs", client=client, body=models.WritePoints(points=points[:1]), mode=models.WriteMode.INSERT_ONLY)
    assert (again.items[0].id, again.items[0].error) == ("a", "AlreadyExists")

    find = call(generated, "search.search")
    answer = find("docs", client=client, body=models.Search(text="parse a date", limit=3))
    assert isinstance(answer, models.SearchAnswer)
    assert answer.hits[0].id == "b" and len(answer.hits) == 3
    tagged = models.MatchCondition(key="tags", match=models.Match(any_=["y"]))
    nested = models.FilterTree(should=[models.IsEmptyCondition(models.EmptyField("lang")), tagged])
    only = models.FilterTree(must=[nested], must_not=[models.HasIdCondition(["c"])])
    answer = find("docs", client=client, body=models.Search(text="parse a date", filter_=only, with_metadata=["tags"]))
    assert [(hit.id, hit.metadata.to_dict()) for hit in answer.hits] == [("a", {"tags": ["x", "y"]})]

    erase = call(generated, "points.delete_points")
    english = models.FilterTree(must=[models.MatchCondition("lang", models.Match(value="en"))])
    assert erase("docs", client=client, body=models.DeletePoints(filter_=english, dry_run=True)).would_delete == 1
    assert erase("docs", client=client, body=models.DeletePoints(ids=["b"])).deleted == 1
    problem = call(generated, "points.get_point")("docs", "b", client=client)
    assert isinstance(problem, models.Problem) and problem.error == "PointNotFound"
    assert call(generated, "points.count")("docs", client=client, body=models.Count()).count == 2
    assert call(generated, "collections.delete_collection")("docs", client=client).deleted == "docs"


def test_ingest_lines_and_wait(generated: str, url: str) -> None:
    models = importlib.import_module(f"{generated}.models")
    file = importlib.import_module(f"{generated}.types").File
    lines = file(io.BytesIO(b'{"id": "a", "text": "a fox"}\n{"id": 7}\n'))
    with importlib.import_module(generated).Client(url, raise_on_unexpected_status=True) as client:
        create = models.CreateCollection(bundle="tiny@1")
        call(generated, "collections.create_collection")("lines", client=client, body=create)
        accepted = call(generated, "jobs.ingest")("lines", client=client, body=lines)
        while (job := call(generated, "jobs.get_job")(accepted.job, client=client)).finished_at is None:
            pass
    assert isinstance(job, models.IngestJob)
    assert (job.state, job.applied, job.rejected) == (models.JobState.SUCCEEDED, 1, 1)
