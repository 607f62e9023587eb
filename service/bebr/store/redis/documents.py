"""Documents in Redis: JSON texts by kind and name. Whoever lost the lease can neither write them nor read them."""

from collections.abc import Mapping, Sequence

from bebr.store.protocol import (
    DamagedDocument,
    Document,
    pack_document,
    read_document,
    sound_document,
    stale_document,
)
from bebr.store.redis.client import Argument, RedisClient, Refused, Script
from bebr.store.redis.keys import FENCE, REVISION, Keys
from bebr.store.redis.watch import Watch


class RedisDocuments:
    """The documents of one store."""

    def __init__(self, client: RedisClient, keys: Keys, watch: Watch) -> None:
        self._client, self._keys, self._watch = client, keys, watch
        self._script = Script.load("documents.lua")

    async def get(self, kind: str, name: str) -> Document | None:
        await self._claim(kind)
        text = await self._client.read("HGET", self._keys.documents(kind), name)
        return sound_document(kind, name, text) if text else None

    async def list(self, kind: str) -> dict[str, Document | DamagedDocument]:
        await self._claim(kind)
        documents = await self._client.read("HGETALL", self._keys.documents(kind))
        names = {
            raw.decode(errors="replace"): text
            for raw, text in sorted(documents.items())
            if text and raw not in (FENCE, REVISION)
        }
        return {name: read_document(kind, name, text) for name, text in names.items()}

    async def revision(self, kind: str) -> int:
        return int(await self._client.read("HGET", self._keys.documents(kind), REVISION) or 0)

    async def replace(
        self, kind: str, puts: Mapping[str, Document], deletes: Sequence[str], expect: Mapping[str, Document | None]
    ) -> int:
        """How many were deleted that are not stored. Raises StaleDocument."""
        stored = [part for name, value in puts.items() for part in (name, pack_document(kind, name, value))]
        expected = await self._texts(kind, expect)
        gone = [name for name in deletes if name not in puts]
        return await self._run(kind, [len(puts), *stored, len(expect), *expected, *gone])

    async def _texts(self, kind: str, expect: Mapping[str, Document | None]) -> Sequence[Argument]:
        """Names and texts of these documents, as they are stored."""
        if not expect:
            return []
        found = await self._client.read("HMGET", self._keys.documents(kind), *expect)
        for (name, expected), text in zip(expect.items(), found, strict=True):
            if (read_document(kind, name, text) if text else None) != expected:
                raise stale_document(kind, name)
        return [part for name, text in zip(expect, found, strict=True) for part in (name, text or b"")]

    async def _claim(self, kind: str) -> None:
        """From what is read now no process with a lower token may lead away."""
        if self._watch.token:
            await self._run(kind, [0, 0])

    async def _run(self, kind: str, arguments: Sequence[Argument]) -> int:
        """Also where memory is full: documents are few, and say what is to be deleted."""
        fenced: list[Argument] = [FENCE, self._watch.token, REVISION, *arguments]
        try:
            count: int = await self._client.run(
                self._script, [self._keys.documents(kind)], fenced, changes=True, past_maxmemory=True
            )
        except Refused as refused:
            if refused.reason == "BEBRSTALE":
                raise stale_document(kind, refused.detail) from None
            self._watch.check_fence(refused)
            raise
        return count
