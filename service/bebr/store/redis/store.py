"""RedisStore: the store for several processes, in Redis, Valkey, or a cluster of either.

    <prefix>:schema                          number of this layout
    <prefix>:collections                     hash uid -> number of shards; "identity" -> the store's id,
                                             "token" -> the last fencing token
    <prefix>:lease                           whose the prefix is now, with a lifetime
    <prefix>:documents:<kind>                hash name -> JSON text
    {<prefix>:<uid>:<shard>}:info            hash last_seq, points, purged_seq, the names of its epochs and where
                                             they began, and the fencing token; a shard exists while this does
    {<prefix>:<uid>:<shard>}:points          hash id -> seq (6 bytes), then nothing for a tombstone, or version (4),
                                             record size (2), checksums (8), record, metadata
    {<prefix>:<uid>:<shard>}:feed            stream "<seq>-0" -> id: the latest operation of each id
    {<prefix>:<uid>:<shard>}:tombstones      sorted set of deleted ids by seq
    {<prefix>:<uid>:<shard>}:hold            there while a backup reads the shard, at most a minute after it
    {<prefix>:<uid>:<shard>}:receipt:<key>   seqs, digest and outcome of a write, with a lifetime

The braces keep a shard in one slot of a cluster, where one Lua script commits to it atomically. A stream holds a seq
and an id in little more than their bytes.

Durability is the server's: an acknowledged commit survives its death only with `appendonly yes`, and with certainty
only with `appendfsync always`. With `everysec` the last second or two may be lost with the machine.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bebr.core.history import History
from bebr.core.operations import Commit, CommitOutcome, Committed, FeedEntry, ShardCounters
from bebr.core.types import StoredPoint
from bebr.disk import FolderLock
from bebr.errors import AlreadyExists, BebrError, DamagedStore, InvalidOption, StoreUnavailable
from bebr.store.protocol import (
    DamagedDocument,
    Document,
    check_uid,
    damaged_points,
    pack_document,
    read_document,
    receipt_conflict,
    sound_document,
    unknown_shard,
)
from bebr.store.redis.client import Argument, RedisClient, Refused, Script
from bebr.store.redis.commit_calls import CommitCall, commit_calls
from bebr.store.redis.lease import Lease
from bebr.store.redis.values import unpack_value
from bebr.store.redis.watch import Watch

SCHEMA = 2
"""2: points may have checksums."""
MAX_CONNECTIONS = 32
FLAGS_SINCE = 7
"""First version of Redis whose scripts may run past maxmemory; Valkey says 7 too."""
FEED_CHUNK_ENTRIES = 1000
PURGE_CHUNK_ENTRIES = 1000
"""What one script handles of a long read or purge: the server serves nobody else meanwhile."""

_PARTS = ("info", "points", "feed", "tombstones")

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
    ) -> None:
        """folder: locked by a process that has the prefix to itself, as SQLite does; None for one that only reads."""
        if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", prefix):
            raise InvalidOption(f"a Redis prefix is 1 to 64 of letters, digits and '_.:-', got {prefix!r:.80}")
        self._prefix = prefix
        self._receipt_ttl_ms = max(1, round(receipt_ttl_seconds * 1000))
        self._client = RedisClient(url, timeout_seconds, max_connections)
        self._folder = folder
        self._lock = FolderLock(folder) if folder else None
        self._lease = Lease(self._client, prefix, folder) if folder else None
        self._watch = Watch(self._client, prefix, partial(self._key, part="info"), self._lease)
        self._commit, self._feed, self._purge, self._replace = (
            Script.load(name) for name in ("commit.lua", "feed.lua", "purge.lua", "replace_documents.lua")
        )
        self._shrink = self._commit
        """What commits that take no more room than before are run by."""

    # -- life ----------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and check that the server keeps what it is given.

        Raises StoreUnavailable when it does not answer or would evict points, DamagedStore when a newer bebr wrote it.
        """
        self._lock_folder()
        try:
            await self._client.open()
            await self._check_schema()
            await self._check_server()
            await self._watch.start()
        except BaseException:
            await self.close()
            raise

    async def open_for_reading(self) -> bool:
        """Connect beside a service, without a change. False where there is no store."""
        await self._client.open()
        schema = await self._client.read("GET", f"{self._prefix}:schema")
        if schema is not None and int(schema) > SCHEMA:
            await self._check_schema()
        return schema is not None

    async def _check_schema(self) -> None:
        key = f"{self._prefix}:schema"
        schema = await self._client.read("GET", key)
        if schema is None or int(schema) < SCHEMA:
            await self._client.write("SET", key, SCHEMA)
        elif int(schema) > SCHEMA:
            raise DamagedStore(
                f"Redis holds data of a newer bebr (schema {int(schema)}, this one reads up to {SCHEMA}); "
                "upgrade bebr, or choose another prefix"
            )

    async def _check_server(self) -> None:
        policy = (await self._client.info("memory")).get("maxmemory_policy", "noeviction")
        if policy.startswith("allkeys"):
            raise StoreUnavailable(
                f"Redis would evict points when memory is full (maxmemory-policy {policy}); set it to noeviction"
            )
        flags_known = (
            int(str((await self._client.info("server")).get("redis_version", "0")).split(".")[0]) >= FLAGS_SINCE
        )
        if flags_known and self._shrink is self._commit:
            self._shrink, self._replace = self._commit.past_maxmemory(), self._replace.past_maxmemory()
        if (await self._client.info("persistence")).get("aof_enabled") == 0:
            log.warning("Redis runs without an append-only file: what it acknowledges is lost when it stops")

    async def close(self) -> None:
        await self._watch.stop()
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
        self._watch.on_loss, self._watch.on_look = on_loss, on_look

    async def identity(self) -> str:
        return self._watch.identity

    async def renew_identity(self) -> str:
        return await self._watch.renew_identity()

    def _check_lease(self) -> None:
        if self._lease is not None:
            self._lease.check_fresh()

    # -- documents -----------------------------------------------------------------------------------------------------

    async def put_document(self, kind: str, name: str, value: Document) -> None:
        self._check_lease()
        await self._client.write("HSET", self._documents(kind), name, pack_document(kind, name, value))

    async def get_document(self, kind: str, name: str) -> Document | None:
        text = await self._client.read("HGET", self._documents(kind), name)
        return sound_document(kind, name, text) if text is not None else None

    async def list_documents(self, kind: str) -> dict[str, Document | DamagedDocument]:
        documents = await self._client.read("HGETALL", self._documents(kind))
        names = {raw.decode(errors="replace"): text for raw, text in sorted(documents.items())}
        return {name: read_document(kind, name, text) for name, text in names.items()}

    async def delete_document(self, kind: str, name: str) -> bool:
        self._check_lease()
        return bool(await self._client.write("HDEL", self._documents(kind), name))

    async def replace_documents(self, kind: str, puts: Mapping[str, Document], deletes: Sequence[str]) -> None:
        self._check_lease()
        stored = [part for name, value in puts.items() for part in (name, pack_document(kind, name, value))]
        await self._client.run(self._replace, [self._documents(kind)], [len(deletes), *deletes, *stored], changes=True)

    def _documents(self, kind: str) -> str:
        return f"{self._prefix}:documents:{kind}"

    # -- collections ---------------------------------------------------------------------------------------------------

    async def create(self, uid: str, shards: int) -> None:
        check_uid(uid)
        self._check_lease()
        registry = f"{self._prefix}:collections"
        await self._client.write("HSETNX", registry, uid, shards)
        existing = int(await self._client.read("HGET", registry, uid))
        if existing != shards:
            raise AlreadyExists(f"collection {uid} exists with {existing} shards, not {shards}", uid=uid)
        for shard in range(shards):
            info = self._key(uid, shard, "info")
            for counter in ("points", "purged_seq", "last_seq"):  # last_seq last: with it the shard exists
                await self._client.write("HSETNX", info, counter, 0)

    async def drop(self, uid: str) -> None:
        self._check_lease()
        registry = f"{self._prefix}:collections"
        shards = await self._client.read("HGET", registry, uid)
        if shards is not None:
            self._watch.forget(uid)
            # The entry goes last, so that a drop that was cut short can be sent again.
            for shard in range(int(shards)):
                await self._client.write("UNLINK", *(self._key(uid, shard, part) for part in _PARTS))
            await self._client.write("HDEL", registry, uid)

    # -- points --------------------------------------------------------------------------------------------------------

    async def commit(self, uid: str, commits: Sequence[Commit]) -> list[CommitOutcome]:
        """The shards at once, each with as few calls as its commits allow."""
        outcomes: dict[int, CommitOutcome] = {}
        calls = commit_calls(commits, first_receipt=len(_PARTS) + 1, refused=outcomes)
        await asyncio.gather(*(self._commit_shard(uid, shard, some, outcomes) for shard, some in calls.items()))
        return [outcomes[place] for place in range(len(commits))]

    async def _commit_shard(
        self, uid: str, shard: int, calls: Sequence[CommitCall], outcomes: dict[int, CommitOutcome]
    ) -> None:
        """One call after the other; once the server is away, the rest is not tried: each would wait as long."""
        away: StoreUnavailable | None = None
        for call in calls:
            try:
                if away is not None:
                    raise away
                outcomes |= call.split(await self._commit_call(uid, shard, call))
            except Exception as error:
                away = error if isinstance(error, StoreUnavailable) else None
                outcomes |= dict.fromkeys(call.places, error)

    async def _commit_call(self, uid: str, shard: int, call: CommitCall) -> list[Committed]:
        epoch, floor = self._watch.expected(uid, shard)
        arguments = [self._receipt_ttl_ms, self._watch.token, epoch, floor, call.writes, *call.arguments]
        results = await self._run(
            self._shrink if call.shrinks else self._commit,
            uid,
            shard,
            arguments,
            receipts=call.receipts,
            changes=True,
            size_bytes=call.size_bytes,
        )
        committed = [
            Committed([flag == ord("1") for flag in flags], first_seq, last_seq, bool(replayed))
            for replayed, first_seq, last_seq, flags in results
        ]
        self._watch.acknowledged(uid, shard, epoch, max([floor, *(one.last_seq for one in committed)]))
        return committed

    async def fetch(
        self, uid: str, shard: int, ids: Sequence[str], *, metadata: bool = True, records: bool = False
    ) -> list[StoredPoint | None]:
        values = await self._client.read("HMGET", self._key(uid, shard, "points"), *ids) if ids else []
        if not any(values) and not await self._client.read("EXISTS", self._key(uid, shard, "info")):
            raise await self._missing(uid, shard)
        found: list[StoredPoint | None] = []
        damaged = []
        for id, value in zip(ids, values, strict=True):
            entry = unpack_value(id, value) if value else None
            if entry is not None and entry.is_damaged:
                damaged.append(id)
            if entry is None or entry.record is None or entry.metadata is None:
                found.append(None)
                continue
            record, text = entry.record if records else b"", entry.metadata if metadata else ""
            found.append(StoredPoint(id, entry.seq, entry.version, record, text))
        if damaged:
            raise damaged_points(damaged)
        return found

    async def fetch_all(
        self, uid: str, ids_of_shard: Mapping[int, Sequence[str]], *, metadata: bool = True, records: bool = False
    ) -> dict[str, StoredPoint]:
        pages = await asyncio.gather(
            *(self.fetch(uid, shard, ids, metadata=metadata, records=records) for shard, ids in ids_of_shard.items())
        )
        return {point.id: point for page in pages for point in page if point is not None}

    async def feed(self, uid: str, shard: int, after_seq: int, limit: int) -> list[FeedEntry]:
        entries: dict[str, FeedEntry] = {}
        wanted = limit
        while wanted > 0:
            chunk = min(wanted, FEED_CHUNK_ENTRIES)
            parts = await self._run(self._feed, uid, shard, [after_seq, chunk], changes=False)
            for raw_id, value, seq in zip(parts[::3], parts[1::3], map(int, parts[2::3]), strict=True):
                entry = unpack_value(raw_id.decode(errors="replace"), value or b"")
                if entry.seq != seq:
                    entry = FeedEntry(seq, entry.id, 0, None, None, True)
                entries.pop(entry.id, None)  # it was changed since the last chunk, and stands at its new place now
                entries[entry.id] = entry
                after_seq = entry.seq
            wanted -= chunk
            if len(parts) < 3 * chunk:
                break
        return list(entries.values())

    async def counters(self, uid: str, shard: int) -> ShardCounters:
        info = self._key(uid, shard, "info")
        points, last_seq, purged_seq = await self._client.read("HMGET", info, "points", "last_seq", "purged_seq")
        if last_seq is None:
            raise await self._missing(uid, shard)
        return ShardCounters(int(points), int(last_seq), int(purged_seq))

    async def history(self, uid: str, shard: int) -> History:
        found = await self._watch.history(uid, shard)
        if found is None:
            raise await self._missing(uid, shard)
        return found

    async def hold_tombstones(self, uid: str, shard: int, seconds: int) -> None:
        """Let nobody purge tombstones for so long; 0: no more."""
        key = self._key(uid, shard, "hold")
        await (self._client.write("SET", key, 1, "EX", seconds) if seconds else self._client.write("DEL", key))

    async def purge_tombstones(self, uid: str, shard: int, up_to_seq: int) -> int:
        self._check_lease()
        purged = 0
        while True:
            arguments = [up_to_seq, PURGE_CHUNK_ENTRIES]
            count: int = await self._run(self._purge, uid, shard, arguments, others=("hold",), changes=True)
            purged += count
            if count < PURGE_CHUNK_ENTRIES:
                return purged

    async def _run(
        self,
        script: Script,
        uid: str,
        shard: int,
        arguments: Sequence[Argument],
        *,
        others: Sequence[str] = (),
        receipts: Sequence[str] = (),
        changes: bool,
        size_bytes: int = 0,
    ) -> Any:
        """Run a script on a shard's keys, in the order that all scripts expect."""
        keys = [self._key(uid, shard, part) for part in (*_PARTS, *others)]
        keys += [self._key(uid, shard, f"receipt:{key}") for key in receipts]
        try:
            return await self._client.run(script, keys, arguments, changes=changes, size_bytes=size_bytes)
        except Refused as refused:
            if refused.reason == "BEBRCONFLICT":
                raise receipt_conflict(receipts[int(refused.detail) - len(_PARTS) - 1]) from None
            if refused.reason == "BEBRWENTBACK":
                raise self._watch.went_back(uid, shard, int(refused.detail)) from None
            if refused.reason == "BEBRFENCED" and self._lease is not None:
                self._lease.lost()
                self._lease.check()
            raise await self._missing(uid, shard) from None

    async def _missing(self, uid: str, shard: int) -> BebrError:
        """The error for a shard that is not there. Raises StoreUnavailable where it must be."""
        await self._watch.missing(uid, shard)
        return unknown_shard(uid, shard)

    def _key(self, uid: str, shard: int, part: str) -> str:
        return f"{{{self._prefix}:{uid}:{shard}}}:{part}"
