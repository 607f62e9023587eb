"""Which collections and aliases there are: loaded from the store, kept in memory, changed one request at a time."""

import asyncio
import json
import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar

from bebr.config import Limits
from bebr.core.lists import MAX_RECALL, MIN_RECALL
from bebr.core.types import FieldType, Role
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.damaged import DamagedEntry, read_document
from bebr.engine.collections.encoders import CollectionEncoders
from bebr.engine.collections.field_change import AutoFields
from bebr.engine.collections.naming import Naming
from bebr.engine.collections.schema import CollectionDocument, FitPlan
from bebr.engine.collections.version import Version
from bebr.engine.requests import AliasChange, CollectionSettings
from bebr.errors import AlreadyExists, CollectionNotFound, Conflict, InvalidOption, NotPrimary, NotReady, StaleDocument
from bebr.store import DamagedDocument, Document, MetadataStore
from bebr.store.protocol import to_json

log = logging.getLogger(__name__)
Result = TypeVar("Result")
COLLECTION, ALIAS = "collection", "alias"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MAX_FILTERABLE = 64
MAX_FIELD_CHARS = 256


class CollectionRegistry:
    """Names of collections and aliases. One name is never both."""

    def __init__(self, store: MetadataStore, limits: Limits, role: Role = Role.PRIMARY) -> None:
        self._store = store
        self._limits = limits
        self.role = role
        self.collections: dict[str, Collection] = {}
        self.damaged: dict[str, DamagedEntry] = {}
        """Collections that cannot be opened, by name."""
        self.aliases: dict[str, str] = {}
        self._naming = Naming(store)
        self.lock = asyncio.Lock()
        """Held by whoever changes names or documents, so that two requests never take the same name."""
        self.problem: str | None = "not started"
        """Why nothing can be used now."""
        self.complete = False
        """Whether it is known which collections there are."""
        self.refresh: Callable[[], Awaitable[None]] | None = None
        """Takes over what other services have changed in the store; None: no other writes to it."""
        self.stored: dict[str, Document] = {}
        """By name of a collection: its document, as the store had it last."""

    @asynccontextmanager
    async def naming(self) -> AsyncIterator[None]:
        """Change names, while nobody else does, here or in another service."""
        async with self._naming.alone(self.refresh), self.lock:
            yield

    def check_ready(self) -> None:
        """Raise NotReady where nothing can be used now."""
        if self.problem is not None:
            raise NotReady(f"the service is not ready: {self.problem}")

    def check_changes(self) -> None:
        """Raise NotPrimary in a process that only follows another one."""
        if self.role is not Role.PRIMARY:
            raise NotPrimary("this process only follows the one that writes; send the request to that one")

    def get_to_change(self, name: str) -> Collection:
        """`get`, for whoever changes the collection. Raises NotPrimary too."""
        self.check_changes()
        return self.get(name)

    def get(self, name: str) -> Collection:
        """The collection of that name or alias, ready for use. Raises CollectionNotFound, NotReady."""
        collection = self._loaded(name)
        check_whole(collection)
        return collection

    def of_import(self, name: str, import_id: str) -> Collection:
        """The collection that this import makes or has made. Raises Conflict where that is another one's.

        Raises NotPrimary too.
        """
        self.check_changes()
        collection = self._loaded(name)
        imported = collection.document.imported
        if imported is None or imported.id != import_id:
            raise Conflict(
                f"collection '{name}' was not made by this import: another one has taken its place", collection=name
            )
        return collection

    def _loaded(self, name: str) -> Collection:
        self.check_ready()
        collection = self.find(name)
        if not collection.ready:
            raise NotReady(f"collection '{name}' is still loading; try again later", collection=name)
        return collection

    def all(self) -> list[Collection]:
        """All collections by name, also those that are still loading, but for the damaged ones.

        Raises NotReady before they are known.
        """
        self._check_complete()
        return [collection for _, collection in sorted(self.collections.items())]

    def all_aliases(self) -> dict[str, str]:
        """Collection by alias. Raises NotReady before they are known."""
        self._check_complete()
        return dict(sorted(self.aliases.items()))

    def find(self, name: str) -> Collection:
        """The collection of that name or alias, also while it is still loading.

        Raises CollectionNotFound, DamagedCollection, NotReady.
        """
        self._check_complete()
        name = self.aliases.get(name, name)
        collection = self.collections.get(name)
        if collection is None:
            if (damaged := self.damaged.get(name)) is not None:
                raise damaged.error()
            raise CollectionNotFound(f"no collection or alias '{name:.200}'; create it first", collection=name)
        return collection

    def knows(self, name: str) -> bool:
        """Whether there is a collection or alias of that name, as far as was looked."""
        name = self.aliases.get(name, name)
        return name in self.collections or name in self.damaged

    def is_open(self, name: str) -> bool:
        """Whether a collection that is known answers."""
        collection = self.collections.get(self.aliases.get(name, name))
        return collection is not None and collection.ready

    def key_of(self, name: str) -> str | None:
        """The uid of the open collection of that name or alias; None: there is none."""
        collection = self.collections.get(self.aliases.get(name, name))
        return None if collection is None else collection.document.uid

    def holds(self, collection: Collection) -> bool:
        """Whether an open collection is still the one of its name: it may have been deleted meanwhile."""
        return self.collections.get(collection.name) is collection

    async def load_documents(self) -> dict[str, CollectionDocument]:
        """Read everything from the store; sets the aliases, and the collections whose document is damaged."""
        documents = await self._store.list_documents(COLLECTION)
        self.take_aliases(await self._store.list_documents(ALIAS))
        sound: dict[str, CollectionDocument] = {}
        for name, stored in documents.items():
            read = read_document(name, stored)
            if not isinstance(stored, DamagedDocument):
                self.stored[name] = stored
            if isinstance(read, DamagedEntry):
                self.damaged[name] = read
            else:
                sound[name] = read
        return sound

    def take_aliases(self, stored: Mapping[str, Document | DamagedDocument | None]) -> None:
        """Take over what the store says of some aliases; None: they are gone."""
        aliases = dict(self.aliases)
        for alias, document in stored.items():
            aliases.pop(alias, None)
            if document is None:
                continue
            if isinstance(document, DamagedDocument) or not isinstance(document.get("collection"), str):
                log.error("alias %s is lost, set it again: its document in the store is damaged", alias)
            else:
                aliases[alias] = document["collection"]
        self.aliases = aliases

    def check_new(self, name: str) -> None:
        """Raise InvalidOption or AlreadyExists where no collection of that name can be made."""
        check_name(name)
        if name in self.collections or name in self.damaged or name in self.aliases:
            kind = "an alias" if name in self.aliases else "a collection"
            raise AlreadyExists(f"'{name}' is {kind} already; delete it first or take another name", collection=name)
        count = len(self.collections) + len(self.damaged)
        if count >= self._limits.max_collections:
            raise InvalidOption(f"there are {count} collections already (the limit)", key="max_collections")

    def new_document(self, settings: CollectionSettings, version: Version, fit: FitPlan | None) -> CollectionDocument:
        """Check the settings of a new collection -> what to store about it.

        version: the code version it begins with. fit: the plan of its fit, if it has one.
        """
        if not 1 <= settings.shards <= self._limits.max_shards:
            raise InvalidOption(f"shards must be 1 to {self._limits.max_shards}, got {settings.shards}", key="shards")
        check_filterable(settings.filterable)
        if settings.text_field is not None and not 1 <= len(settings.text_field) <= MAX_FIELD_CHARS:
            raise InvalidOption(f"'text_field' has 1 to {MAX_FIELD_CHARS} characters", key="text_field")
        check_recall(settings.recall)
        return CollectionDocument(
            uid=secrets.token_hex(12),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            shards=settings.shards,
            filterable=dict(settings.filterable),
            versions=(version,),
            active=0,
            fit=fit,
            text_field=settings.text_field,
            recall=settings.recall,
            auto=AutoFields() if settings.auto_filterable else None,
        )

    async def save(self, name: str, document: CollectionDocument) -> None:
        """Raises StaleDocument where another service has changed it, AlreadyExists where one has just created it."""
        self.check_changes()
        known = self.stored.get(name)
        expect = None if self.refresh is None else {name: known}
        if known is None:
            await self._naming.renew()
        packed = json.loads(to_json(document.to_document()))  # as it will be read
        try:
            await self._store.replace_documents(COLLECTION, {name: packed}, [], expect=expect)
        except StaleDocument:
            if known is None:
                raise AlreadyExists(f"another service has just created '{name}'", collection=name) from None
            raise
        self.stored[name] = packed

    async def changing(self, change: Callable[[], Awaitable[Result]]) -> Result:
        """Change documents while nobody else here does; again where another service was first."""
        while True:
            async with self.lock:
                try:
                    return await change()
                except StaleDocument:
                    if self.refresh is None:
                        raise
            await self.refresh()

    async def update(
        self, collection: Collection, change: Callable[[CollectionDocument], CollectionDocument]
    ) -> CollectionDocument:
        """Change the document of a collection as it is when the lock is won.

        Raises CollectionNotFound where the collection was deleted meanwhile, and what `change` raises.
        """
        return await self.changing(lambda: self.replace(collection, change(collection.document)))

    async def replace(
        self, collection: Collection, document: CollectionDocument, opened: CollectionEncoders | None = None
    ) -> CollectionDocument:
        """`update` for a caller that holds the lock. opened: the encoders of its versions, where others are used."""
        if not self.holds(collection):
            raise CollectionNotFound(f"collection '{collection.name}' was deleted", collection=collection.name)
        await self.save(collection.name, document)
        collection.adopt(document, opened)
        return document

    async def forget(self, name: str) -> None:
        """Remove a collection and the aliases that point to it."""
        self.check_changes()
        await self._naming.renew()
        pointing = [alias for alias, target in self.aliases.items() if target == name]
        await self._store.replace_documents(ALIAS, {}, pointing)
        self.aliases = {alias: target for alias, target in self.aliases.items() if target != name}
        await self._store.delete_document(COLLECTION, name)
        self.stored.pop(name, None)
        self.collections.pop(name, None)
        self.damaged.pop(name, None)

    async def change_aliases(self, changes: Sequence[AliasChange]) -> None:
        """Apply the changes in order, all or nothing. Raises AlreadyExists, CollectionNotFound, InvalidOption."""
        self.check_changes()
        async with self.naming():
            await self._change_aliases(changes)

    async def _change_aliases(self, changes: Sequence[AliasChange]) -> None:
        before, after = self.aliases, dict(self.aliases)
        for change in changes:
            self._change_alias(after, change.alias, change.collection)
        puts = {alias: {"collection": target} for alias, target in after.items() if before.get(alias) != target}
        deletes = [alias for alias in before if alias not in after]
        await self._naming.renew()
        await self._store.replace_documents(ALIAS, puts, deletes)
        self.aliases = after

    def _check_complete(self) -> None:
        """A service that has not read its store yet must not say that something does not exist."""
        if not self.complete:
            raise NotReady(f"the service is not ready: {self.problem}")

    def _change_alias(self, aliases: dict[str, str], alias: str, target: str | None) -> None:
        if target is None:
            if aliases.pop(alias, None) is None:
                raise CollectionNotFound(f"no alias '{alias:.200}'", alias=alias)
            return
        check_name(alias)
        if alias in self.collections or alias in self.damaged:
            raise AlreadyExists(f"'{alias}' is a collection, so it cannot be an alias", alias=alias)
        if target not in self.collections and target not in self.damaged:
            raise CollectionNotFound(f"no collection '{target:.200}' for alias '{alias}'", collection=target)
        aliases[alias] = target


def check_whole(collection: Collection) -> None:
    """Raise NotReady where an import has not brought all points."""
    if collection.document.partial:
        raise NotReady(
            f"collection '{collection.name}' is not whole: an import of it runs, or was cut short; in that case import "
            "it again, or delete it",
            collection=collection.name,
        )


def check_name(name: str) -> None:
    """Raise InvalidOption unless the name can be part of a URL."""
    if not NAME.fullmatch(name):
        raise InvalidOption(
            f"a name has 1 to 128 of A-Z a-z 0-9 . _ - and starts with a letter or digit, got {name!r:.200}", key="name"
        )


def check_recall(recall: float | None) -> None:
    """Raise InvalidOption unless searches by lists can find that share of the exact hits; None: they are exact."""
    if recall is not None and not MIN_RECALL <= recall <= MAX_RECALL:
        raise InvalidOption(f"recall must be {MIN_RECALL} to {MAX_RECALL}, got {recall}", key="recall")


def check_filterable(filterable: Mapping[str, FieldType]) -> None:
    """Raise InvalidOption where there are too many fields, or a name is too long."""
    if len(filterable) > MAX_FILTERABLE:
        raise InvalidOption(f"at most {MAX_FILTERABLE} filterable fields, got {len(filterable)}", key="filterable")
    for key in filterable:
        if not 1 <= len(key) <= MAX_FIELD_CHARS:
            raise InvalidOption(
                f"the name of a filterable field has 1 to {MAX_FIELD_CHARS} characters", key="filterable"
            )
