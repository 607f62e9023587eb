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


BEFORE_ADAPTERS = {
    "previous": 0,
    "ways": {"a" * 64: "adapter", "b" * 64: "weighted"},
    "previous_ways": {"c" * 64: "adapter"},
    "evaluations": {
        "old@1 -> new@1": {"measure": "recall_at_10", "way": "adapter", "ways": {"adapter": {"gain": None}, "dual": {}}}
    },
    "history": [{"event": "promote", "way": "adapter", "to": "new@1"}, {"event": "rollback", "to": "old@1"}],
    "backfill": None,
}
"""Upgrades as they were written before adapters were called so."""


def test_a_document_with_ways_is_read_in_todays_words() -> None:
    document = CollectionDocument.from_json({**BEFORE_FITS, "upgrades": BEFORE_ADAPTERS})
    upgrades = document.upgrades
    assert upgrades.adapters == {"a" * 64: "linear", "b" * 64: "weighted"}
    assert upgrades.previous_adapters == {"c" * 64: "linear"} and upgrades.previous == 0
    (evaluation,) = upgrades.evaluations.values()
    measured = {"linear": {"gain": None}, "dual": {}}
    assert evaluation == {"measure": "recall_at_10", "adapter": "linear", "adapters": measured}
    promoted, rolled_back = upgrades.history
    assert promoted == {"event": "promote", "adapter": "linear", "to": "new@1"}
    assert rolled_back == {"event": "rollback", "to": "old@1"}
    assert CollectionDocument.from_json(json.loads(json.dumps(document.to_json()))).upgrades == upgrades


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
