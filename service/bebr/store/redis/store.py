"""RedisStore: the store for several processes, in Redis, Valkey, or a cluster of either. `keys.py` says what it keeps.

Durability is the server's: an acknowledged commit survives its death only with `appendonly yes`, and with certainty
only with `appendfsync always`. With `everysec` the last second or two may be lost with the machine.
"""

import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from bebr.core.history import History
from bebr.core.operations import Commit, CommitOutcome, FeedPage, ShardCounters
from bebr.core.types import Role, StoredPoint
from bebr.disk import FolderLock
from bebr.errors import AlreadyExists, DamagedStore, InvalidOption, StoreUnavailable
from bebr.store.protocol import (
    DamagedDocument,
    Document,
    HeldLease,
    Member,
    check_lease_name,
    check_uid,
    only_follows,
)
from bebr.store.redis.announcements import Announcements
from bebr.store.redis.client import Argument, RedisClient, Refused, Script
from bebr.store.redis.documents import RedisDocuments
from bebr.store.redis.keys import Keys
from bebr.store.redis.lease import Lease
from bebr.store.redis.members import Membership
from bebr.store.redis.news import News
from bebr.store.redis.points import RedisPoints
from bebr.store.redis.shard_calls import ShardCalls
from bebr.store.redis.task_leases import TaskLeases
from bebr.store.redis.watch import Watch

SCHEMA = 4
"""2: points may have checksums. 3: so may tombstones. 4: documents have a revision."""
MAX_CONNECTIONS = 32
TOMBSTONE_SECONDS = 86_400.0

log = logging.getLogger(__name__)


class RedisStore:
    """A MetadataStore on a Redis or Valkey server, or a cluster."""

    def __init__(
        self,
        url: str,
        prefix: str = "bebr",
        receipt_ttl_seconds: float = 86_400,
        timeout_seconds: float = 5,
        max_connections: int = MAX_CONNECTIONS,
        folder: Path | None = None,
        role: Role = Role.PRIMARY,
        ack_replicas: int = 1,
        allow_volatile: bool = False,
        shared: bool = False,
        name: str = "{host}:{pid}",
        tombstone_seconds: float = TOMBSTONE_SECONDS,
        is_partial: bool = False,
    ) -> None:
        """folder: locked by a process that has the prefix to itself, as SQLite does; None without that. role: a
        follower changes nothing. ack_replicas: how many must have a change before it is acknowledged, once
        the server was seen to have any. allow_volatile: take a server that may lose what it acknowledged. shared:
        others that say so may have the prefix too, each with its own folder. name: what they call this one.
        tombstone_seconds: for how long deletes are kept then at least. is_partial: this one has not all shards, or
        none.
        """
        if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", prefix):
            raise InvalidOption(f"a Redis prefix is 1 to 64 of letters, digits and '_.:-', got {prefix!r:.80}")
        self.on_documents: Callable[[str, Collection[str]], None] = lambda kind, names: None
        self._keys = Keys(prefix)
        self._client = RedisClient(url, timeout_seconds, max_connections, ack_replicas)
        self._allow_volatile = allow_volatile
        self._folder = folder
        self._follows = role is Role.FOLLOWER
        self._lock = FolderLock(folder) if folder else None
        self._membership: Membership | None = None
        if folder and shared:
            self._membership = Membership(self._client, self._keys, folder, name, is_partial)
        self._lease = self._membership or (Lease(self._client, self._keys, folder) if folder else None)
        self._watch = Watch(self._client, self._keys, self._lease)
        self._news = News(url, self._keys.news)
        self._leases = TaskLeases(self._client, self._keys)
        self._announcements = Announcements(self._client, self._keys)
        self._documents = RedisDocuments(self._client, self._keys, self._watch)
        receipt_ttl_ms = max(1, round(receipt_ttl_seconds * 1000))
        self._points = RedisPoints(
            self._client, self._keys, self._watch, receipt_ttl_ms, round(tombstone_seconds * 1000)
        )
        self._calls = ShardCalls(self._client, self._keys, self._watch)
        self._registry = Script.load("registry.lua")
        self._create, self._drop = map(Script.of_shard, ("create.lua", "drop.lua"))

    # -- life ----------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and check that the server keeps what it is given.

        Raises StoreUnavailable when it does not answer or would evict points, DamagedStore when a newer bebr wrote it.
        """
        self._lock_folder()
        try:
            if self._follows:
                await self._open_to_follow()
            else:
                await self._client.open()
                await self._check_schema()
                await self._check_server()
                await self._watch.start()
                if self._membership is not None:
                    await self._news.start()
        except BaseException:
            await self.close()
            raise

    async def _open_to_follow(self) -> None:
        if not await self.open_for_reading():
            raise StoreUnavailable(
                "there is no store under this Redis prefix yet; start the process that writes to it first"
            )
        await self._watch.start(only_reads=True)
        await self._news.start()

    async def open_for_reading(self) -> bool:
        """Connect beside a service, without a change. False where there is no store."""
        self._points.mender.only_reads = True
        await self._client.open()
        schema = await self._client.read("GET", self._keys.schema)
        if schema is not None and int(schema) > SCHEMA:
            await self._check_schema()
        return schema is not None

    async def _check_schema(self) -> None:
        schema = await self._client.read("GET", self._keys.schema)
        if schema is None or int(schema) < SCHEMA:
            await self._client.write_small("SET", self._keys.schema, SCHEMA)
        elif int(schema) > SCHEMA:
            raise DamagedStore(
                f"Redis holds data of a newer bebr (schema {int(schema)}, this one reads up to {SCHEMA}); "
                "upgrade bebr, or choose another prefix"
            )

    async def _check_server(self) -> None:
        for replication in await self._client.masters_info("replication"):
            self._client.saw_replicas(int(replication.get("connected_slaves", 0)))
        for memory in await self._client.masters_info("memory"):
            policy = memory.get("maxmemory_policy", "noeviction")
            if policy != "noeviction":
                evicted = "points" if policy.startswith("allkeys") else "leases and receipts"
                self._refuse(
                    f"Redis would evict {evicted} when memory is full (maxmemory-policy {policy}); set it to noeviction"
                )
        for persistence in await self._client.masters_info("persistence"):
            if persistence.get("aof_enabled") == 0:
                self._refuse(
                    "Redis runs without an append-only file, so what it acknowledges is lost when it stops; set its "
                    "option appendonly to yes"
                )

    def _refuse(self, why: str) -> None:
        """A server that may lose points, unless that is allowed."""
        if not self._allow_volatile:
            raise StoreUnavailable(f"{why}. To use it all the same, set allow_volatile_store")
        log.warning("%s", why)

    async def close(self) -> None:
        await self._news.stop()
        await self._watch.stop()
        await self._points.mender.stop()
        await self._client.close()
        if self._lock is not None:
            self._lock.release()

    def _lock_folder(self) -> None:
        if self._lock is not None and self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except BlockingIOError as error:
                raise StoreUnavailable(str(error), path=str(self._folder)) from error

    async def ping(self) -> None:
        await self._watch.ping()

    def listen(
        self, on_loss: Callable[[str, int], None], on_look: Callable[[Mapping[str, Mapping[int, int]]], None]
    ) -> None:
        self._watch.on_loss, self._watch.on_look, self._news.on_commit = on_loss, on_look, on_look

    async def identity(self) -> str:
        return self._watch.identity

    async def renew_identity(self) -> str:
        self._check_lease()
        return await self._watch.renew_identity()

    def _check_lease(self) -> None:
        if self._follows:
            raise only_follows()
        if self._lease is not None:
            self._lease.check_fresh()

    # -- documents -----------------------------------------------------------------------------------------------------

    async def put_document(self, kind: str, name: str, value: Document) -> None:
        await self.replace_documents(kind, {name: value}, [])

    async def get_document(self, kind: str, name: str) -> Document | None:
        return await self._documents.get(kind, name)

    async def list_documents(self, kind: str) -> dict[str, Document | DamagedDocument]:
        return await self._documents.list(kind)

    async def delete_document(self, kind: str, name: str) -> bool:
        return await self._change_documents(kind, {}, [name], {}) > 0

    async def replace_documents(
        self,
        kind: str,
        puts: Mapping[str, Document],
        deletes: Sequence[str],
        *,
        expect: Mapping[str, Document | None] | None = None,
    ) -> None:
        await self._change_documents(kind, puts, deletes, expect or {})

    async def _change_documents(
        self, kind: str, puts: Mapping[str, Document], deletes: Sequence[str], expect: Mapping[str, Document | None]
    ) -> int:
        self._check_lease()
        try:
            return await self._documents.replace(kind, puts, deletes, expect)
        finally:
            self.on_documents(kind, [*puts, *deletes])

    async def revision(self, kind: str) -> int:
        return await self._documents.revision(kind)

    # -- leases --------------------------------------------------------------------------------------------------------

    async def take_lease(self, name: str, holder: str, seconds: float) -> int | None:
        check_lease_name(name)
        self._check_lease()
        return await self._leases.take(name, holder, seconds)

    async def renew_lease(self, name: str, token: int, seconds: float) -> bool:
        self._check_lease()
        return await self._leases.renew(name, token, seconds)

    async def release_lease(self, name: str, token: int) -> None:
        self._check_lease()
        await self._leases.release(name, token)

    async def leases(self) -> list[HeldLease]:
        return await self._leases.held()

    async def announce(self, name: str, text: str, seconds: float) -> dict[str, str]:
        check_lease_name(name)
        if self._follows:
            raise only_follows()
        return await self._announcements.say(name, text, seconds)

    async def announced(self) -> dict[str, str]:
        return await self._announcements.say("", "", 0)

    def members(self) -> list[Member]:
        return [] if self._membership is None else self._membership.members()

    # -- collections ---------------------------------------------------------------------------------------------------

    async def create(self, uid: str, shards: int) -> None:
        check_uid(uid)
        self._check_lease()
        existing = int(await self._enter(uid, shards))
        if existing != shards:
            raise AlreadyExists(f"collection {uid} exists with {existing} shards, not {shards}", uid=uid)
        for shard in range(shards):
            await self._calls.run(self._create, uid, shard, [], changes=True)

    async def drop(self, uid: str) -> None:
        self._check_lease()
        shards = await self._client.read("HGET", self._keys.registry, uid)
        if shards is not None:
            self._watch.forget(uid)
            # The entry goes last, so that a drop that was cut short can be sent again.
            for shard in range(int(shards)):
                await self._calls.run(self._drop, uid, shard, [self._watch.token], changes=True)
            await self._enter(uid, "")
            self._watch.forget(uid)  # a look that was under way may have noted its shards again

    async def _enter(self, uid: str, shards: int | str) -> bytes:
        try:
            arguments: list[Argument] = [self._watch.token, uid, shards]
            found: bytes = await self._client.run(
                self._registry, [self._keys.registry], arguments, changes=True, past_maxmemory=shards == ""
            )
        except Refused as refused:
            self._watch.check_fence(refused)
            raise
        return found

    # -- points --------------------------------------------------------------------------------------------------------

    async def commit(self, uid: str, commits: Sequence[Commit]) -> list[CommitOutcome]:
        if self._follows:
            return [only_follows() for _ in commits]
        return await self._points.commit(uid, commits)

    async def fetch(
        self, uid: str, shard: int, ids: Sequence[str], *, metadata: bool = True, records: bool = False
    ) -> list[StoredPoint | None]:
        return await self._points.fetch(uid, shard, ids, metadata=metadata, records=records)

    async def fetch_all(
        self, uid: str, ids_of_shard: Mapping[int, Sequence[str]], *, metadata: bool = True, records: bool = False
    ) -> dict[str, StoredPoint]:
        return await self._points.fetch_all(uid, ids_of_shard, metadata=metadata, records=records)

    def at_hand(self, uid: str, ids: Sequence[str]) -> dict[str, StoredPoint]:
        return {}

    async def feed(self, uid: str, shard: int, after_seq: int, limit: int) -> FeedPage:
        return await self._points.feed(uid, shard, after_seq, limit)

    async def counters(self, uid: str, shard: int) -> ShardCounters:
        return await self._points.counters(uid, shard)

    async def history(self, uid: str, shard: int) -> History:
        return await self._points.history(uid, shard)

    async def hold_tombstones(self, uid: str, shard: int, seconds: int) -> None:
        """Let nobody purge tombstones for so long; 0: no more."""
        self._check_lease()
        await self._points.hold_tombstones(uid, shard, seconds)

    async def purge_tombstones(self, uid: str, shard: int, up_to_seq: int) -> int:
        self._check_lease()
        return await self._points.purge_tombstones(uid, shard, up_to_seq)
