"""The use cases of a transfer: read a collection whole, and make one of what was read."""

import asyncio
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations

from bebr.config import Limits
from bebr.encoding import BundleRegistry
from bebr.engine.answers import AnswerSize
from bebr.engine.capacity import CapacityGuard
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.collections.schema import CollectionDocument, Import
from bebr.engine.collections.version import VersionKind
from bebr.engine.loader import CollectionLoader
from bebr.engine.requests import CollectionSettings
from bebr.engine.results import WriteReport
from bebr.engine.transfer.definition import (
    Definition,
    check_bundles,
    check_codes,
    document_in,
    document_out,
    renamed,
)
from bebr.engine.transfer.records import ExportedPage, read_page, read_records
from bebr.engine.versions.calibration import Calibrations
from bebr.engine.versions.fitted_bundles import FittedBundles
from bebr.engine.write.points import PointWriter
from bebr.errors import BebrError, Damaged, InvalidOption


class Transfer:
    """Reads collections whole, and makes collections of what was read."""

    def __init__(
        self,
        registry: CollectionRegistry,
        bundles: BundleRegistry,
        *,
        fitted_bundles: FittedBundles,
        calibrations: Calibrations,
        loader: CollectionLoader,
        writer: PointWriter,
        guard: CapacityGuard,
        limits: Limits,
    ) -> None:
        self._registry = registry
        self._bundles = bundles
        self._fitted_bundles = fitted_bundles
        self._calibrations = calibrations
        self._loader = loader
        self._writer = writer
        self._guard = guard
        self._limits = limits

    async def definition(self, name: str) -> Definition:
        """What a collection is, beside its points."""
        collection = self._registry.get(name)
        document = collection.document
        fitted = [version for version in document.versions if version.kind is VersionKind.FITTED]
        aliases = [alias for alias, target in self._registry.all_aliases().items() if target == collection.name]
        models = [version.model_fingerprint for version in document.versions if version.model_fingerprint is not None]
        calibrations = [
            {"from": here, "to": there, "sample": sample}
            for here, there in permutations(dict.fromkeys(models), 2)
            if (sample := await self._calibrations.kept(document, (here, there))) is not None
        ]
        return Definition(
            name=collection.name,
            collection=document_out(document),
            binarizers={str(version.bundle): await self._fitted_bundles.kept(version) for version in fitted},
            calibrations=calibrations,
            aliases=aliases,
            points=sum(collection.shards.points().values()),
        )

    async def create(self, name: str, definition: Definition, import_id: str | None = None) -> Collection:
        """A collection without points, as the definition says; `write` gives it the points.

        import_id: names the import. Its collection answers nothing until a `write` of it was the last one.
        Raises InvalidOption, AlreadyExists; BundleNotFound and Incompatible where this service has other bundles.
        """
        self._registry.check_changes()
        self._registry.check_ready()
        self._guard.check()
        uid, at = secrets.token_hex(12), datetime.now(UTC).isoformat(timespec="seconds")
        async with self._registry.naming():
            self._registry.check_new(name)
            document = self._checked(document_in(definition, uid, at))
            document = replace(document, imported=None if import_id is None else Import(import_id))
            await asyncio.to_thread(check_bundles, document, self._bundles)
            saved: list[str] = []
            try:
                document = await self._save_binarizers(name, definition, document, saved)
                await self._calibrations.put(document, definition.calibrations)
            except BaseException:
                await self._take_back(document, saved)
                raise
            return await self._loader.make(name, document, _check_encoders)

    async def read(self, name: str, limit: int, cursor: str | None) -> ExportedPage:
        """A page of points by ascending id, with their codes."""
        if not 1 <= limit <= self._limits.max_limit:
            raise InvalidOption(f"'limit' must be 1 to {self._limits.max_limit}, got {limit}", key="limit")
        size = AnswerSize(self._limits.max_answer_bytes)
        return await read_page(self._registry.get(name), limit, cursor, size)

    async def write(
        self, name: str, points: Sequence[object], import_id: str | None = None, last: bool = False
    ) -> WriteReport:
        """Points as `read` gave them, of any version of the collection; wrong ones are named in the report.

        last: with these the import is whole, unless one of them is wrong. Raises Conflict where the collection is
        another import's.
        """
        if last and import_id is None:
            raise InvalidOption("'last' is said of an import; give its 'import_id' too", key="last")
        registry = self._registry
        collection = registry.get_to_change(name) if import_id is None else registry.of_import(name, import_id)
        report = await self._writer.write_exported(collection, points, read_records)
        if last and import_id is not None and not report.items and collection.document.partial:
            whole = Import(import_id, whole=True)
            await registry.update(collection, lambda document: replace(document, imported=whole))
        return report

    def _checked(self, document: CollectionDocument) -> CollectionDocument:
        """The rules of every new collection hold for this one too."""
        settings = CollectionSettings(
            shards=document.shards,
            filterable=document.filterable,
            text_field=document.text_field,
            recall=document.recall,
        )
        new = self._registry.new_document(settings, document.versions[0], document.fit)
        return replace(document, filterable=new.filterable, recall=new.recall)

    async def _save_binarizers(
        self, name: str, definition: Definition, document: CollectionDocument, saved: list[str]
    ) -> CollectionDocument:
        """Keep the fitted binarizers, under other ids where another collection has these. saved: gets the ids."""
        names: dict[str, str] = {}
        fitted = [version for version in document.versions if version.kind is VersionKind.FITTED]
        for version in fitted:
            old = str(version.bundle)
            if old not in definition.binarizers:
                raise InvalidOption(f"the definition lacks the binarizer '{old}'", key="binarizers")
            taken = not _is_own(old) or await self._fitted_bundles.has(old)
            new = _new_id(name, document.uid, old) if taken else old
            saved.append(new)
            bundle = await self._fitted_bundles.put_kept(new, definition.binarizers[old])
            check_codes(version, bundle)
            if not taken and bundle.fingerprint != version.fingerprint:
                raise InvalidOption(f"the binarizer '{old}' is not the one of version '{version.id}'", key="binarizers")
            if taken:
                names |= {old: new, str(version.fingerprint): bundle.fingerprint}
        return CollectionDocument.from_document(renamed(document.to_document(), names)) if names else document

    async def _take_back(self, document: CollectionDocument, saved: Sequence[str]) -> None:
        with suppress(BebrError):
            await self._calibrations.forget(document)
        for bundle_id in saved:
            with suppress(BebrError):
                await self._fitted_bundles.discard(bundle_id)


def _check_encoders(collection: Collection) -> None:
    """Raise InvalidOption where a version's binarizer cannot be used."""
    for version in collection.document.coded:
        try:
            if version.kind is not VersionKind.RAW:
                collection.codec(version)
        except Damaged as error:
            raise InvalidOption(f"version '{version.id}' cannot be used: {error.detail}", key="binarizers") from error


def _is_own(bundle_id: str) -> bool:
    """Whether it is an id that this service gives to fitted binarizers: no other bundle is ever replaced."""
    return re.fullmatch(r"own-[a-z0-9._-]+@[0-9]+", bundle_id) is not None


def _new_id(name: str, uid: str, old: str) -> str:
    readable = re.sub(r"[^a-z0-9._-]", "-", name.lower())[:60]
    return f"own-{readable}-{uid[:8]}@{old.rpartition('@')[2]}"
