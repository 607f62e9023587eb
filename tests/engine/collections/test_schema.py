"""What the store keeps about a collection can be read back, also as it was written before there were fits."""

import json

from bebr.core.types import FieldType
from bebr.engine.collections.schema import CollectionDocument, FitPlan
from bebr.engine.collections.version import Version, VersionKind

BEFORE_FITS = {
    "uid": "0123456789abcdef01234567",
    "created_at": "2026-01-01T00:00:00+00:00",
    "shards": 2,
    "filterable": {"lang": "keyword"},
    "versions": [
        {"id": "minilm@1", "code": "48x4+128x2", "steps": [0.5, 0.25], "bundle": "minilm@1", "fingerprint": "f" * 64}
    ],
    "active": 0,
}


def test_a_document_from_before_fits_is_read_and_stays_as_it_was() -> None:
    document = CollectionDocument.from_json(BEFORE_FITS)
    assert document.fit is None and document.buffered is None and document.fitted is None
    version = document.active_version
    assert (version.model, version.model_fingerprint) == ("minilm@1", "f" * 64)
    assert document.filterable == {"lang": FieldType.KEYWORD}
    assert document.to_json() == BEFORE_FITS


def test_a_document_with_a_fit_comes_back_whole() -> None:
    before = CollectionDocument.from_json(BEFORE_FITS)
    model = ("minilm@1", "f" * 64)
    buffered = Version.buffered(1, 32, *model)
    metrics = {"recall_at_10": 0.5, "queries": 30}
    own = Version(
        number=2,
        id="own-docs-0@1",
        kind=VersionKind.FITTED,
        spec=buffered.spec,
        steps=buffered.steps,
        bundle="own-docs-0@1",
        fingerprint="e" * 64,
        model="minilm@1",
        model_fingerprint="f" * 64,
        metrics=metrics,
    )
    versions = (*before.versions, buffered, own)
    document = CollectionDocument(
        before.uid, before.created_at, 2, before.filterable, versions, 1, FitPlan(8, 300, failed="no")
    )
    text = json.dumps(document.to_json())
    again = CollectionDocument.from_json(json.loads(text))
    assert json.dumps(again.to_json()) == text
    assert again.fit == FitPlan(8, 300, False, "no")
    assert (again.buffered and again.buffered.buffered_dims, again.fitted and again.fitted.metrics) == (32, metrics)
    assert [version.kind for version in again.versions] == [
        VersionKind.BUNDLE,
        VersionKind.BUFFERED,
        VersionKind.FITTED,
    ]
    assert [version.model for version in again.versions] == ["minilm@1"] * 3
