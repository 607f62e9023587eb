"""What the store keeps about a collection can be read back, also as it was written before there were fits."""

import json
from typing import Any

from bebr.core.types import FieldType, JobState
from bebr.encoding import AdapterKind
from bebr.encoding.adapters.quality import AdapterQuality, Interval
from bebr.engine.collections.schema import CollectionDocument, FitPlan
from bebr.engine.collections.upgrades import Promotion, Rollback
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


CELL = {"ndcg_at_10": 0.5, "recall_at_10": 0.25}
GAIN = {"mean": 0.125, "low": 0.0, "high": 0.25}
BEFORE_ADAPTERS: dict[str, Any] = {
    "previous": 0,
    "ways": {"a" * 64: "adapter", "b" * 64: "weighted"},
    "previous_ways": {"c" * 64: "adapter"},
    "evaluations": {
        "old@1 -> new@1": {
            "active": "old@1",
            "version": "new@1",
            "at": 1.5,
            "measure": "recall_at_10",
            "judged": False,
            "queries": 40,
            "points": 100,
            "way": "adapter",
            "old_to_old": CELL,
            "new_to_old": CELL,
            "new_to_new": None,
            "mixed": {"25": CELL},
            "ways": {"adapter": {**CELL, "gain": GAIN}, "dual": {**CELL, "gain": None}},
            "gain": GAIN,
            "update_gain": None,
            "negative_flips": 0.25,
        }
    },
    "history": [
        {
            "event": "promote",
            "from": "old@1",
            "to": "new@1",
            "at": 2.5,
            "forced": True,
            "way": "adapter",
            "gain": GAIN,
            "min_gain": 0.25,
        },
        {"event": "rollback", "from": "new@1", "to": "old@1", "at": 3.5},
    ],
    "backfill": {
        "job": "backfill-1",
        "version": "new@1",
        "rate": 20.0,
        "total": 80,
        "created_at": 4.5,
        "state": "paused",
        "finished_at": None,
        "skipped": 2,
        "applied": 16,
        "detail": None,
    },
}
"""Upgrades as they were written before adapters were called so."""


def test_a_document_with_ways_is_read_in_todays_words() -> None:
    document = CollectionDocument.from_document({**BEFORE_FITS, "upgrades": BEFORE_ADAPTERS})
    upgrades = document.upgrades
    assert upgrades.adapters == {"a" * 64: "linear", "b" * 64: "weighted"}
    assert upgrades.previous_adapters == {"c" * 64: "linear"} and upgrades.previous == 0
    evaluation = upgrades.evaluation("old@1", "new@1")
    assert evaluation is not None and evaluation.adapter == "linear" and evaluation.gain == Interval(**GAIN)
    assert evaluation.adapters == {
        "linear": AdapterQuality(0.5, 0.25, Interval(**GAIN)),
        "dual": AdapterQuality(0.5, 0.25, None),
    }
    assert upgrades.history == (
        Promotion("old@1", "new@1", 2.5, forced=True, adapter=AdapterKind.LINEAR, gain=Interval(**GAIN), min_gain=0.25),
        Rollback("new@1", "old@1", 3.5),
    )
    assert upgrades.backfill is not None and upgrades.backfill.state is JobState.PAUSED
    assert CollectionDocument.from_document(json.loads(json.dumps(document.to_document()))).upgrades == upgrades
    assert upgrades.to_document()["backfill"] == BEFORE_ADAPTERS["backfill"]
    assert upgrades.to_document()["history"][1] == BEFORE_ADAPTERS["history"][1]


def test_a_document_from_before_fits_is_read_and_stays_as_it_was() -> None:
    document = CollectionDocument.from_document(BEFORE_FITS)
    assert document.fit is None and document.buffered is None and document.fitted is None
    version = document.active_version
    assert (version.model, version.model_fingerprint) == ("minilm@1", "f" * 64)
    assert document.filterable == {"lang": FieldType.KEYWORD}
    assert document.to_document() == BEFORE_FITS


def test_a_document_with_a_fit_comes_back_whole() -> None:
    before = CollectionDocument.from_document(BEFORE_FITS)
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
    text = json.dumps(document.to_document())
    again = CollectionDocument.from_document(json.loads(text))
    assert json.dumps(again.to_document()) == text
    assert again.fit == FitPlan(8, 300, False, "no")
    assert (again.buffered and again.buffered.buffered_dims, again.fitted and again.fitted.metrics) == (32, metrics)
    assert [version.kind for version in again.versions] == [
        VersionKind.BUNDLE,
        VersionKind.BUFFERED,
        VersionKind.FITTED,
    ]
    assert [version.model for version in again.versions] == ["minilm@1"] * 3
