"""Watch: whether the server still has what it acknowledged, and whether it is still ours.

A failover, a restart without an append-only file or with an older one, and FLUSHALL take acknowledged writes away
while nobody looks. So what a server that was not there before says is compared first (`RedisClient.trusted`), and every
few seconds some shards are. Whoever listens hears of each loss before anybody reads what is left, and how far the other
shards are: a commit that failed while the server hung may happen later.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from bebr.core.history import Epoch, History, Mark, new_epoch, new_store_id
from bebr.errors import BebrError, StoreUnavailable
from bebr.store.redis.client import RedisClient, Refused, Script
from bebr.store.redis.keys import Keys
from bebr.store.redis.lease import Lease
from bebr.store.redis.members import Membership
from bebr.telemetry import event

log = logging.getLogger(__name__)
IDENTITY = "identity"
"""Key among the collections' uids, for which it is too short: the store's id."""
LOOK_EVERY_SECONDS = 2.0
LOOK_AT_SHARDS = 64
"""Shards that are looked at each time."""
Shard = tuple[str, int]
"""(uid, number)"""


class Torn(Exception):
    """The feed or the counters of a shard do not agree with its points: it must be mended first."""


class Watch:
    """What an open store knows of its server."""

    def __init__(self, client: RedisClient, keys: Keys, lease: Lease | Membership | None) -> None:
        self._client = client
        self._registry = keys.registry
        self._keys = keys
        self._history = Script.of_shard("history.lua")
        self.lease = lease
        self.on_loss: Callable[[str, int], None] = lambda uid, shard: None
        """Told of shards that lost what was acknowledged."""
        self.on_look: Callable[[Mapping[str, Mapping[int, int]]], None] = lambda last_seqs: None
        """Told how far shards are that lost nothing: uid -> number -> last seq."""
        self.identity = ""
        self._only_reads = False
        self.process = new_epoch()
        """Names the epochs where the server does not say who it is."""
        self._parted: dict[Shard, str] = {}
        """Shards that have lost something, whose next commit begins an epoch although the server is the same."""
        self._marks: dict[Shard, Mark] = {}
        """The last operation of each shard that is known here."""
        self._verifying = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    async def start(self, only_reads: bool = False) -> None:
        """Raises StoreUnavailable where the prefix is another process's, or has nothing that could be read."""
        self._only_reads = only_reads
        if self.lease is not None:
            await self.lease.acquire()
        if not only_reads:
            await self._client.write_small("HSETNX", self._registry, IDENTITY, new_store_id())
        identity = await self._client.read("HGET", self._registry, IDENTITY)
        if identity is None:
            raise StoreUnavailable("the store has no id yet; start the process that writes to it first")
        self.identity = identity.decode()
        self._client.verify = self._verify
        self._stopping.clear()
        self._looking = asyncio.create_task(self._look())

    async def stop(self) -> None:
        if self._looking is not None:
            self._stopping.set()  # a call under way is finished
            await self._looking
            self._looking = None
            if self.lease is not None:
                try:
                    await self.lease.release()
                except BebrError as error:
                    log.warning("the lease of the store could not be given back, it expires by itself: %s", error)
        self._client.verify = None

    async def renew_identity(self) -> str:
        self.identity = new_store_id()
        await self._client.write("HSET", self._registry, IDENTITY, self.identity)
        return self.identity

    @property
    def token(self) -> int:
        return self.lease.token if self.lease is not None else 0

    def check_fence(self, refused: Refused) -> None:
        """Raise StoreUnavailable where a script declined because another process has a higher token."""
        if refused.reason == "BEBRFENCED":
            if self.lease is None:
                raise StoreUnavailable(
                    "a process with a lease writes to this Redis prefix; stop it, or choose another one"
                )
            self.lease.lost(token=int(refused.detail))
            self.lease.check()
            raise StoreUnavailable("the store went back, and those that share it begin anew; try again", sent=False)

    # -- what was acknowledged -----------------------------------------------------------------------------------------

    def expected(self, uid: str, shard: int) -> tuple[str, int]:
        """What the epoch is named by that the next commit must begin, or nothing; and the lowest seq that the shard may
        have before it."""
        mark = self._marks.get((uid, shard))
        return self._parted.get((uid, shard), ""), mark.seq if mark else 0

    def acknowledged(self, uid: str, shard: int, epoch: str, seq: int, begun: bool) -> None:
        """A commit of this epoch, which it has begun or not, left the shard at `seq`."""
        if begun:
            self._parted.pop((uid, shard), None)
        mark = self._marks.get((uid, shard))
        if mark is None or seq > mark.seq:
            self._marks[uid, shard] = Mark(self.identity, epoch, seq)

    def forget(self, uid: str) -> None:
        """The collection is dropped."""
        for shard in [shard for shard in self._marks if shard[0] == uid]:
            del self._marks[shard]

    async def history(self, uid: str, shard: int, *, check: bool = True) -> History | None:
        """None where there is no such shard. Raises Torn."""
        keys = self._keys.shard(uid, shard)
        answer = await self._client.run(
            self._history, keys, [self.token, self.process], changes=False, check=check, past_maxmemory=True
        )
        if answer is None:
            return None
        if answer[3]:
            raise Torn
        return self.noted(uid, shard, int(answer[0]), answer[1], answer[2])

    def noted(self, uid: str, shard: int, last_seq: int, written: bytes, following: bytes) -> History:
        """The history of a shard, from its last seq, its epochs as they are stored, and the epoch of the next commit:
        others may see it now."""
        epochs = [_epoch(one) for one in written.decode().split()]
        if not self._only_reads and (not epochs or epochs[-1].name != following.decode()):
            epochs.append(Epoch(last_seq, following.decode()))
        history = History(self.identity, epochs, last_seq, lossless=False)
        mark = self._marks.get((uid, shard))
        if mark is None or (last_seq > mark.seq and not history.lost(mark)):
            self._marks[uid, shard] = history.mark(last_seq)
        return history

    def went_back(self, uid: str, shard: int, last_seq: int, same_epoch: bool = True) -> StoreUnavailable:
        """The shard has less than was acknowledged: it goes on from there in another epoch, unless it has already."""
        mark = self._marks.pop((uid, shard), None)  # another call may have found it out
        if same_epoch and mark:
            self._parted[uid, shard] = new_epoch()[:4]
        why = f"the store went back{f' from {mark.seq}' if mark else ''} to {last_seq}"
        event(log, "the store went back", logging.ERROR, collection=uid, shard=shard, why=why)
        self.on_loss(uid, shard)
        return StoreUnavailable(f"{why} in shard {shard} of collection {uid}; try again", uid=uid, shard=shard)

    def mended(self, uid: str, shard: int, corrected: int) -> None:
        """The shard is whole again, and begins anew: nothing that was known of it holds any more."""
        self._marks.pop((uid, shard), None)
        event(
            log,
            "the feed of a shard is made anew from its points",
            logging.ERROR,
            collection=uid,
            shard=shard,
            corrected=corrected,
            why="the store did a part of a transaction that it had cut off, or it is damaged",
        )
        self.on_loss(uid, shard)

    async def missing(self, uid: str, shard: int) -> None:
        """A shard is not there. Raise StoreUnavailable where it must be."""
        if await self._may_be_dropped(uid):
            self.forget(uid)
        if (uid, shard) in self._marks:
            self._client.trusted = False
            await self._verify()
            raise self.went_back(uid, shard, 0)

    async def _may_be_dropped(self, uid: str) -> bool:
        """Whether another process that writes has dropped a collection, or may have."""
        if self._only_reads or not isinstance(self.lease, Membership):
            return self._only_reads
        return await self._client.peek("HGET", self._registry, uid) is None

    # -- looking -------------------------------------------------------------------------------------------------------

    async def ping(self) -> None:
        """Raises StoreUnavailable where the server does not answer, or is not the store that it was."""
        if self.lease is not None:
            self.lease.check()
        found = await self._client.read("HGET", self._registry, IDENTITY)
        if found != self.identity.encode():
            self._client.trusted = False
            await self._verify()

    async def _verify(self) -> None:
        async with self._verifying:
            if self._client.trusted:
                return
            found = await self._client.peek("HGET", self._registry, IDENTITY)
            if found != self.identity.encode():
                has = f"is another one now (id {found.decode()})" if found else "was emptied: it has no id any more"
                raise StoreUnavailable(
                    f"the store {has}; it was {self.identity} when this process started. Bring its data back from a "
                    "backup, or restart this process"
                )
            if self.lease is not None:
                await self.lease.renew()
            lost = await self._losses(list(self._marks))
            self._client.trusted = True
            self._tell(lost)

    async def _losses(self, shards: Sequence[Shard]) -> list[tuple[Shard, int, bool]]:
        """Those of the shards that lost what was acknowledged, their last seq, and whether they would go on in
        the very epoch of what they lost."""
        lost, sound = [], defaultdict[str, dict[int, int]](dict)
        for shard in shards:
            mark = self._marks.get(shard)  # before the history is read: commits go on meanwhile
            try:
                history = await self.history(*shard, check=False)
            except Torn:
                self.on_loss(*shard)  # who compares it with its view then has it mended
                continue
            if mark is not None and history is None and await self._may_be_dropped(shard[0]):
                self.forget(shard[0])
            elif mark is not None and history is None:
                lost.append((shard, 0, True))
            elif mark is not None and history is not None and history.lost(mark):
                lost.append((shard, history.last_seq, mark.epoch in [one.name for one in history.epochs[-1:]]))
            elif history is not None:
                sound[shard[0]][shard[1]] = history.last_seq
        self.on_look(sound)
        return lost

    def _tell(self, lost: Sequence[tuple[Shard, int, bool]]) -> None:
        for shard, last_seq, same_epoch in lost:
            if shard in self._marks:  # else its collection was dropped meanwhile
                self.went_back(*shard, last_seq, same_epoch)

    async def _look(self) -> None:
        at = 0
        while not await self._is_stopping():
            try:
                if self.lease is not None:
                    await self.lease.renew()
                await self.ping()
                shards = list(self._marks)
                some, at = shards[at : at + LOOK_AT_SHARDS], at + LOOK_AT_SHARDS
                at = 0 if at >= len(shards) else at
                self._tell(await self._losses(some))
            except BebrError as error:
                event(log, "the store cannot be looked at", logging.DEBUG, why=error.detail)
            except Exception:  # the lease is renewed here
                log.exception("the store could not be looked at; trying again")

    async def _is_stopping(self) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_SECONDS):
                await self._stopping.wait()
        return self._stopping.is_set()


def _epoch(text: str) -> Epoch:
    start, name = text.split(":")
    return Epoch(int(start), name)
