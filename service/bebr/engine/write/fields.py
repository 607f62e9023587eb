"""Changing the filterable fields of a collection: fields are added, dropped, get another type, or come by themselves.

The document says which fields there are, and the shards which columns are still to be made, so a change that was cut
short goes on at the next start. Filters may use a field once all points have its column.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from bebr.config import Limits
from bebr.core.auto_fields import new_fields
from bebr.core.types import FieldType, JobState
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.field_change import AutoFields, FieldChange
from bebr.engine.collections.registry import MAX_FILTERABLE, CollectionRegistry, check_filterable
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.events import CollectionEvents
from bebr.errors import Unavailable
from bebr.shards import Misfits

Fields = Mapping[str, FieldType | None]
"""Fields with their types; None: they are dropped."""
INLINE_POINTS = 32
"""The keys of more points are looked at in a thread."""


class FieldChanges:
    """The changes of all collections: one each at a time, kept in the collection's document."""

    def __init__(self, registry: CollectionRegistry, events: CollectionEvents, limits: Limits) -> None:
        self._registry = registry
        self._events = events
        self._limits = limits
        self._begun: dict[str, int] = {}
        """Jobs that began in this process, with how often shards of their collection had been rebuilt then."""

    async def begin(self, collection: Collection, fields: Fields, auto: bool | None = None) -> str | None:
        """Change fields -> id of the job that makes columns; None where nothing is left to do. Raises InvalidOption.

        Points that are written from now on must fit. auto: whether new keys become filterable by themselves from now
        on; None: as before.
        """

        async def changed() -> str | None:
            before = collection.document
            document = before if auto is None else replace(before, auto=(before.auto or AutoFields()) if auto else None)
            if document.auto is not None and fields:
                document = replace(document, auto=document.auto.after(fields, by_itself=False))
            return await self._change(collection, document, fields)

        try:
            return await self._registry.changing(changed)
        finally:
            self._events.changed(collection)

    async def add_new(self, collection: Collection, metadata: Sequence[Mapping[str, Any]]) -> None:
        """Where fields come by themselves, make the keys filterable that come for the first time."""
        document = collection.document
        if document.auto is None or len(document.auto.fields) >= self._limits.max_auto_fields:
            return
        known = {*document.filterable, *document.auto.dropped, document.text_field or ""}
        find = partial(new_fields, metadata, known)
        found = find() if len(metadata) <= INLINE_POINTS else await asyncio.to_thread(find)
        if not found:
            return

        async def added() -> None:
            document = collection.document  # fields may have come meanwhile
            if document.auto is not None and (new := self._room_for(document, document.auto, found)):
                auto = document.auto.after(new, by_itself=True)
                await self._change(collection, replace(document, auto=auto), new)

        try:
            await self._registry.changing(added)
        finally:
            self._events.changed(collection)

    def _room_for(self, document: CollectionDocument, auto: AutoFields, found: Fields) -> Fields:
        """Those of the fields that are new, and for which there is room."""
        room = min(self._limits.max_auto_fields - len(auto.fields), MAX_FILTERABLE - len(document.filterable))
        new = [(k, kind) for k, kind in found.items() if k not in document.filterable and k not in auto.dropped]
        return dict(new[: max(0, room)])

    async def _change(self, collection: Collection, document: CollectionDocument, fields: Fields) -> str | None:
        """The lock of the registry is held. document: what else changes."""
        document = _changed(collection, document, fields)
        if document == collection.document:
            return None
        before, change = collection.document.field_change, document.field_change
        await self._registry.replace(collection, document)
        if change is None or change is before:
            return None
        if before is None or before.job != change.job:
            self._begun[change.job] = _rebuilds(collection)
        try:
            await collection.shards.set_fields(document.filterable)
        except Unavailable:
            pass  # the job does it, once the store is there again
        else:
            if not collection.shards.columns().outdated:
                self._begun.pop(change.job, None)
                await self._registry.replace(collection, _ended(document, JobState.SUCCEEDED, None))
                return None
        return change.job

    async def make_some(self, collection: Collection, pause: Callable[[], Awaitable[None]]) -> bool:
        """Make some of the columns that are to be made; False: all is done. Raises what the shards raise."""

        async def report(piece: str, misfits: Mapping[str, Misfits]) -> None:
            change = collection.document.field_change
            if change is not None and change.found.get(piece, {}) != misfits:
                await self._registry.update(collection, lambda document: _with_found(document, piece, misfits))

        await collection.shards.set_fields(collection.document.filterable)
        return await collection.shards.make_columns(report, pause)

    async def recount(self, collection: Collection, job: str, pause: Callable[[], Awaitable[None]]) -> None:
        """Count misfits anew where some came into columns unseen: by a start, or in a shard that was rebuilt.

        Raises what the shards raise.
        """
        change = collection.document.field_change
        if change is None or change.job != job or self._begun.get(job) == _rebuilds(collection):
            return
        fields = {key: kind for key, kind in change.fields.items() if kind is not None}
        found = {"all": await collection.shards.misfits(fields, pause)} if fields else {}

        def counted(document: CollectionDocument) -> CollectionDocument:
            now = document.field_change
            return (
                document
                if now is None or now.fields != change.fields
                else replace(document, field_change=replace(now, found=found))
            )

        await self._registry.update(collection, counted)

    async def end(self, collection: Collection, job: str, state: JobState, detail: str | None) -> None:
        """Save how a job ended. Nothing changes where it has ended before, or fields have changed since."""

        def ended(document: CollectionDocument) -> CollectionDocument:
            change = document.field_change
            is_due = change is not None and change.job == job and document.fields_change
            if not is_due or (state is JobState.SUCCEEDED and collection.shards.columns().outdated):
                return document
            return _ended(document, state, detail)

        await self._registry.update(collection, ended)
        self._begun.pop(job, None)


def _rebuilds(collection: Collection) -> int:
    return sum(shard.rebuilds + shard.damaged_files for shard in collection.shards.stats())


def _changed(collection: Collection, document: CollectionDocument, fields: Fields) -> CollectionDocument:
    """The document with these fields. Raises InvalidOption."""
    before = document.field_change
    wanted = {key: kind for key, kind in fields.items() if document.filterable.get(key) is not kind}
    failed = before is not None and before.state is JobState.FAILED and collection.shards.columns().outdated > 0
    if not wanted and not failed:
        return document
    filterable = {key: kind for key, kind in {**document.filterable, **wanted}.items() if kind is not None}
    check_filterable(filterable)
    total = sum(collection.shards.points().values())
    if before is not None and (failed or document.fields_change):
        change = replace(
            before.without(wanted),
            fields={**before.fields, **wanted},
            total=total,
            state=JobState.RUNNING,
            detail=None,
            finished_at=None,
        )
    else:
        job = f"fields-{document.uid[:8]}-{int(time.time() * 1000):x}"
        change = FieldChange(job, wanted, total, time.time())
    return replace(document, filterable=filterable, field_change=change)


def _with_found(document: CollectionDocument, piece: str, misfits: Mapping[str, Misfits]) -> CollectionDocument:
    change = document.field_change
    return document if change is None else replace(document, field_change=change.with_found(piece, misfits))


def _ended(document: CollectionDocument, state: JobState, detail: str | None) -> CollectionDocument:
    change = document.field_change
    assert change is not None, "only a change ends"
    return replace(document, field_change=replace(change, state=state, detail=detail, finished_at=time.time()))
