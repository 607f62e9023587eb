"""Each kind of golden file, read by the part of the code that reads it. Damaged views are rebuilt without a word to the
client, so that only here a segment that can no longer be read makes a test fail.

What the files hold is read a second time here, without bebr.
"""

import json
import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.golden.made import digests
from tests.golden.opening import FORMATS, read_expected

# The only names of bebr's inside that this folder knows.
from bebr.encoding import Bundle
from bebr.engine.collections.schema import CollectionDocument
from bebr.index.segment import Segment
from bebr.index.shard_files import load as load_checkpoint
from bebr.jobs.ingest.ingestion import Ingestion

SEGMENTS, SHARDS, BUNDLES, JOBS, CATALOGS = (
    sorted(path for folder in FORMATS for path in folder.rglob(pattern))
    for pattern in ("*.seg", "shard.json", "manifest.json", "job.json", "catalog.db")
)


def name_of(path: Path) -> str:
    folder = next(parent for parent in path.parents if parent in FORMATS)
    return str(path.relative_to(folder.parent))


@pytest.mark.parametrize("folder", FORMATS, ids=lambda folder: folder.name)
def test_every_file_is_there_as_it_was_made(folder: Path) -> None:
    assert digests(folder) == read_expected(folder)["files"]


@pytest.mark.parametrize("path", SEGMENTS, ids=name_of)
def test_a_segment_is_read(path: Path) -> None:
    (length,) = struct.unpack_from("<I", data := path.read_bytes(), 8)
    header = json.loads(data[16 : 16 + length])
    segment = Segment(path)
    assert (segment.version, segment.rows) == (header["version"], header["rows"])
    assert str(segment.spec) == header["spec"]
    assert {key: str(kind) for key, kind in segment.fields.items()} == header["fields"] and segment.columns
    ids = segment.ids.take(range(segment.rows))
    assert ids == sorted(set(ids)) and segment.find(ids).tolist() == [*range(segment.rows)]


@pytest.mark.parametrize("path", SHARDS, ids=name_of)
def test_a_checkpoint_is_read(path: Path) -> None:
    content = json.loads(path.read_text().partition(" ")[2])
    mark, views = load_checkpoint(path.parent)
    assert mark.seq == content["seq"]
    assert [view.live_count for view in views] == [entry["live_count"] for entry in content["segments"]]
    assert [view.has_dead for view in views] == [entry["live"] is not None for entry in content["segments"]]


@pytest.mark.parametrize("path", BUNDLES, ids=name_of)
def test_a_bundle_is_read(path: Path) -> None:
    content = json.loads(path.read_text())
    bundle = Bundle.load(path.parent)
    assert (bundle.id, bundle.fingerprint) == (f"{content['name']}@{content['version']}", content["fingerprint"])
    assert (str(bundle.spec), bundle.embedding_dims) == (content["binarizer"]["code"], content["embedding_dims"])
    reached = [(entry.bundle, entry.fingerprint) for entry in bundle.manifest.compatible_with]
    assert reached == [(entry["bundle"], entry["fingerprint"]) for entry in content.get("compatible_with", [])]


@pytest.mark.parametrize("path", CATALOGS, ids=name_of)
def test_the_document_of_a_collection_is_read(tmp_path: Path, path: Path) -> None:
    for file in path.parent.glob("catalog.db*"):
        shutil.copy(file, tmp_path)
    documents = documents_in(tmp_path / path.name)
    assert documents
    for content in documents:
        document = CollectionDocument.from_document(content)
        assert (document.uid, document.shards, document.active) == (
            content["uid"],
            content["shards"],
            content["active"],
        )
        assert [str(version.spec) for version in document.versions] == [each["code"] for each in content["versions"]]
        assert {key: str(kind) for key, kind in document.filterable.items()} == content["filterable"]
        assert document.text_field == content.get("text_field")
        assert (document.fit is None) == ("fit" not in content)
        assert len(document.upgrades.history) == len(content.get("upgrades", {}).get("history", []))


def documents_in(catalog: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(catalog)) as connection:
        rows = connection.execute("select value from documents where kind = 'collection'").fetchall()
    return [json.loads(value) for (value,) in rows]


@pytest.mark.parametrize("path", JOBS, ids=name_of)
def test_a_job_is_read(path: Path) -> None:
    content = json.loads(path.read_text())
    job = Ingestion.load(path.parent)
    assert (job.id, str(job.state), job.created_at) == (content["id"], content["state"], content["created_at"])
    assert (job.progress.line, job.progress.applied) == (content["progress"]["line"], content["progress"]["applied"])
