"""Versions are attached, promoted through a gate, rolled back and retired; each step survives a restart."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from tests.engine.fitting import reached
from tests.engine.two_models import adapters
from tests.engine.upgrading import (
    FAST,
    HOW,
    TEXTS,
    moved,
    search,
    upgrading,
    upgrading_jobs,
    write,
)

from bebr.core.codes import CodeSpec
from bebr.encoding import AdapterKind, Bundle, write_bundle
from bebr.encoding.quantization.recurrent_fit import Effort, fit_recurrent
from bebr.encoding.quantization.recurrent_graph import files_of
from bebr.engine import Engine, Gate
from bebr.engine.collections.upgrades import Promotion, Rollback
from bebr.engine.collections.version import VersionKind
from bebr.errors import (
    AlreadyExists,
    BundleNotFound,
    Conflict,
    Incompatible,
    VersionNotFound,
)


async def test_what_nothing_leads_to_cannot_be_attached(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles, 0) as engine:
        rows = np.random.default_rng(0).standard_normal((300, 32)).astype(np.float32)
        fitted = files_of(fit_recurrent(rows, CodeSpec.parse("32x2"), effort=Effort(1, 1)))
        write_bundle(bundles, "mine", "1", embedding_dims=32, binarizer=fitted, replace=True)
        with pytest.raises(Incompatible, match="queries of 'mine@1' cannot search the codes of 'old@1'"):
            await engine.versions.attach("docs", "mine@1")
        with pytest.raises(BundleNotFound):
            await engine.versions.attach("docs", "none@1")
        with pytest.raises(AlreadyExists):
            await engine.versions.attach("docs", "old@1")


async def test_an_adapter_that_cannot_be_used_is_told(tmp_path: Path, bundles: Path) -> None:
    old, other = (Bundle.load(bundles / name) for name in ("old@1", "other@1"))
    wrong = replace(adapters(other, old), embedding_dims=old.embedding_dims + 1)
    write_bundle(
        tmp_path / "bundles",
        "wrong",
        "1",
        embedding_dims=other.embedding_dims,
        binarizer=other.read_binarizer(),
        embedding=other.read_embedding(),
        compatible_with=[wrong],
    )
    shutil.copytree(bundles / "old@1", tmp_path / "bundles" / "old@1")
    async with upgrading(tmp_path, tmp_path / "bundles") as engine:
        await engine.versions.attach("docs", "wrong@1")
        told = (await engine.describe_collection("docs")).encoder_error
        assert told.startswith("how bundle 'wrong@1' reaches 'old@1' cannot be used: reference-0.npz holds")
        await engine.versions.promote("docs", "wrong@1", Gate(), force=True)
        assert (await search(engine, text=TEXTS[80])).explain.route == {"old@1": "dual"}


async def test_the_gate_needs_a_measurement_and_heeds_it(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles) as engine:
        await engine.versions.attach("docs", "new@1")
        with pytest.raises(Conflict, match="was not evaluated against 'old@1'"):
            await engine.versions.promote("docs", "new@1", Gate())
        measured = await engine.evaluator.evaluate("docs", None, HOW)
        assert (measured.active, measured.version) == ("old@1", "new@1")
        assert not measured.judged and measured.queries == 40 and measured.points == 100
        assert set(measured.adapters) == {str(kind) for kind in AdapterKind} and set(measured.mixed) == {
            "25",
            "50",
            "75",
        }
        gain = measured.gain.mean
        with pytest.raises(Conflict, match="does not pass the gate") as refused:
            await engine.versions.promote("docs", "new@1", Gate(gain + 0.01))
        assert refused.value.fields["evaluation"]["gain"] == asdict(measured.gain)
        event = await engine.versions.promote("docs", "new@1", Gate(gain + 0.01), force=True)
        assert event.forced and event.adapter == measured.adapter
        await engine.versions.rollback("docs")
        event = await engine.versions.promote("docs", "new@1", Gate(gain))
        assert not event.forced
        described = engine.versions.describe("docs")
        assert [type(event) for event in described.history] == [Promotion, Rollback, Promotion]
        assert described.evaluations["old@1 -> new@1"].gain == measured.gain
        with pytest.raises(Conflict, match="is the active version of 'docs' already"):
            await engine.versions.promote("docs", "new@1", Gate())
        with pytest.raises(VersionNotFound, match="and none 'newest@1'; attach it first"):
            await engine.versions.promote("docs", "newest@1", Gate())


async def test_the_middle_of_a_chain_stays_while_queries_go_over_it(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles) as engine:
        for version in ("new@1", "newest@1"):
            await engine.versions.attach("docs", version)
            await engine.versions.promote("docs", version, Gate(), force=True)
        with pytest.raises(Conflict, match="reach the codes of 'old@1' over 'new@1'"):
            await engine.versions.retire("docs", "new@1")
        await write(engine, range(120))
        await engine.versions.retire("docs", "new@1")


async def test_a_declared_version_is_held_to(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles, 10) as engine:
        await write(engine, range(5), version="old@1")
        with pytest.raises(
            Incompatible, match="written as its active version 'old@1', and these are declared as 'new@1'"
        ):
            await write(engine, range(5), version="new@1")


async def test_steps_survive_a_restart_and_a_lost_bundle_is_named(tmp_path: Path, bundles: Path) -> None:
    async with upgrading(tmp_path, bundles) as engine:
        await moved(engine)
        before = await search(engine, text=TEXTS[11])
    async with upgrading(tmp_path, bundles) as engine:
        after = await search(engine, text=TEXTS[11])
        assert [(h.id, h.score, h.version) for h in after.hits] == [(h.id, h.score, h.version) for h in before.hits]
        assert engine.versions.describe("docs").previous == "old@1"
    hidden = bundles / "old@1"
    hidden.rename(bundles / ".old")
    try:
        async with upgrading(tmp_path, bundles) as engine:
            assert "old@1" in str((await engine.describe_collection("docs")).encoder_error)
            with pytest.raises(BundleNotFound, match="no bundle 'old@1'"):
                await search(engine, text=TEXTS[11])
    finally:
        (bundles / ".old").rename(hidden)


async def test_the_document_of_an_upgrade_reads_back(tmp_path: Path, bundles: Path) -> None:
    async with upgrading_jobs(tmp_path, bundles) as (engine, jobs):
        await moved(engine)
        await jobs.backfill.submit("docs", None, FAST)
        document = engine.registry.get("docs").document
        again = type(document).from_document(json.loads(json.dumps(document.to_document())))
        assert again.to_document() == document.to_document() and again.upgrades == document.upgrades


async def test_a_fit_after_an_upgrade_is_of_the_new_model(tmp_path: Path, bundles: Path) -> None:
    """Own binarizers of two models, and points of both, in one collection."""
    async with upgrading(tmp_path, bundles) as engine:
        await fitted(engine, 8)
        await engine.versions.attach("docs", "new@1")
        await engine.versions.promote("docs", "new@1", Gate(), force=True)
        await fitted(engine, 12)
        versions = engine.registry.get("docs").document.versions
        assert [version.model for version in versions if version.kind is VersionKind.BUFFERED] == ["old@1", "new@1"]
        assert [version.model for version in versions if version.kind is VersionKind.FITTED] == ["old@1", "new@1"]
        result = await search(engine, text=TEXTS[7])
        assert len(result.hits) == 140 and len(result.searched) == 1
        await engine.versions.rollback("docs")
        await write(engine, range(20))
        result = await search(engine, text=TEXTS[7])
        assert len(result.hits) == 140 and len(result.searched) == 2


async def fitted(engine: Engine, size_bytes: int) -> None:
    """Fit a binarizer of the collection's own to its points, all written anew."""
    await engine.fits.request("docs", size_bytes=size_bytes, sample=130)
    await write(engine, range(140))
    await reached(engine, "done")
