"""A collection at run time: its index, its encoder, its shard writers, and what its document says."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.core.filters import Filter, parse_filter
from bebr.core.types import FieldType, StoredPoint
from bebr.encoding.encoder import Encoder
from bebr.engine.memory import release_free_memory
from bebr.engine.points import Rules
from bebr.engine.writer import ShardWriter
from bebr.errors import BebrError, InvalidOption
from bebr.index import CollectionIndex
from bebr.metadata import MetadataStore

log = logging.getLogger(__name__)
Result = TypeVar("Result")
RETRY_SECONDS = 1.0
INLINE_BYTES = 2**20
"""Looks at the index of a collection of this size take half a millisecond (a page of ids) or less (a count)."""


@dataclass(frozen=True, slots=True)
class Version:
    """A code version of a collection: the space that codes live in. steps (blocks,) float32."""

    number: int
    id: str
    spec: CodeSpec
    steps: NDArray[np.float32]
    bundle: str | None
    fingerprint: str | None

    def to_document(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "code": str(self.spec),
            "steps": [float(step) for step in self.steps],
            "bundle": self.bundle,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_document(cls, number: int, document: Mapping[str, Any]) -> "Version":
        steps = np.array(document["steps"], np.float32)
        spec = CodeSpec.parse(document["code"])
        return cls(number, document["id"], spec, steps, document["bundle"], document["fingerprint"])


@dataclass(frozen=True, slots=True)
class CollectionDocument:
    """What the store keeps about a collection. uid names its data, so that a name can be used again at once."""

    uid: str
    created_at: str
    shards: int
    filterable: Mapping[str, FieldType]
    versions: tuple[Version, ...]
    active: int

    def to_json(self) -> dict[str, Any]:
        return {
            "uid": self.uid,
            "created_at": self.created_at,
            "shards": self.shards,
            "filterable": {key: str(kind) for key, kind in self.filterable.items()},
            "versions": [version.to_document() for version in self.versions],
            "active": self.active,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "CollectionDocument":
        versions = tuple(Version.from_document(n, entry) for n, entry in enumerate(document["versions"]))
        filterable = {key: FieldType(kind) for key, kind in document["filterable"].items()}
        return cls(
            document["uid"], document["created_at"], document["shards"], filterable, versions, document["active"]
        )


class Collection:
    """One open collection. encoder None: codes only, or `encoder_error` says why there is none."""

    def __init__(
        self,
        name: str,
        document: CollectionDocument,
        store: MetadataStore,
        index: CollectionIndex,
        encoder: Encoder | None,
        encoder_error: BebrError | None,
        maintenance: Executor,
        max_queue: int,
    ) -> None:
        self.name = name
        self.document = document
        self.index = index
        self.ready = False
        self._store = store
        self._encoder = encoder
        self._encoder_error = encoder_error
        self._maintenance = maintenance
        self._maintaining: dict[int, asyncio.Task[None]] = {}
        self._closed = False
        self.writers = [
            ShardWriter(store, document.uid, number, shard, document.filterable, max_queue)
            for number, shard in enumerate(index.shards)
        ]

    @property
    def active(self) -> Version:
        return self.document.versions[self.document.active]

    @property
    def encoder(self) -> Encoder:
        """Raises what went wrong with its bundle, or InvalidOption where the collection has none."""
        if self._encoder_error is not None:
            raise type(self._encoder_error)(self._encoder_error.detail, **self._encoder_error.fields)
        if self._encoder is None:
            raise InvalidOption(
                f"collection '{self.name}' was made without a bundle: it takes codes ('code_b64') only", key="vector"
            )
        return self._encoder

    def rules(self, max_text_chars: int, max_metadata_bytes: int) -> Rules:
        """What points of this collection must look like."""
        bundle = None if self._encoder is None and self._encoder_error is None else self.encoder.bundle
        return Rules(
            spec=self.active.spec,
            steps=self.active.steps,
            fields=self.document.filterable,
            takes_text=bundle is not None and bundle.has_embedding_model,
            dims=bundle.embedding_dims if bundle is not None else None,
            max_text_chars=max_text_chars,
            max_metadata_bytes=max_metadata_bytes,
        )

    def shard_of(self, point_id: str) -> int:
        """Shards are chosen by crc32 of the id: stable for ever, on every machine."""
        return crc32(point_id.encode()) % self.document.shards

    def by_shard(self, ids: Sequence[str]) -> dict[int, list[str]]:
        groups: dict[int, list[str]] = {}
        for point_id in ids:
            groups.setdefault(self.shard_of(point_id), []).append(point_id)
        return groups

    def parse_filter(self, data: object) -> Filter | None:
        return None if data is None else parse_filter(data, self.document.filterable)

    async def fetch(
        self, ids: Sequence[str], *, metadata: bool = True, records: bool = False
    ) -> dict[str, StoredPoint]:
        """The points that exist, by id."""
        groups = self.by_shard(ids)
        return await self._store.fetch_all(self.document.uid, groups, metadata=metadata, records=records)

    async def read(self, look: Callable[[], Result]) -> Result:
        """Run a look at the index: here when the collection is small, in a thread when it would hold up others."""
        return look() if self.index.scan_size_bytes() <= INLINE_BYTES else await asyncio.to_thread(look)

    async def catch_up(self) -> None:
        """Bring all shards up to the store."""
        await asyncio.gather(*(writer.catch_up() for writer in self.writers))
        await asyncio.to_thread(release_free_memory)
        self.ready = True

    def maintain(self) -> None:
        """Start maintenance of the shards that need it, unless it runs already or the collection is closed."""
        for number, shard in enumerate(self.index.shards):
            if shard.needs_maintenance and number not in self._maintaining and not self._closed:
                self._maintaining[number] = asyncio.create_task(self._maintain_shard(number))

    def check_room(self, numbers: Iterable[int]) -> None:
        """Raise Overloaded when one of these shards can take no write now."""
        self.maintain()  # sealing that failed is tried again, or a shard that is full would stay so
        for number in numbers:
            self.writers[number].check_room()

    async def wait_for_sealing(self, number: int) -> None:
        """For writes of many pages: the first may be refused, the others go on as fast as segments are sealed."""
        while self.writers[number].sealing_lags and not self._closed:
            self.maintain()
            await asyncio.sleep(0.01)  # a thread seals; polling is all there is

    async def close(self, *, keep: bool) -> None:
        """Finish maintenance; `keep`: write checkpoints, so that the next start replays little."""
        self._closed = True
        await asyncio.gather(*self._maintaining.values(), *(writer.close() for writer in self.writers))
        for number, shard in enumerate(self.index.shards) if keep else ():
            try:
                await asyncio.to_thread(shard.flush)
            except (OSError, BebrError):
                log.exception("no checkpoint of collection %s, shard %d: the next start replays it", self.name, number)

    async def _maintain_shard(self, number: int) -> None:
        try:
            loop, shard = asyncio.get_running_loop(), self.index.shards[number]
            await loop.run_in_executor(self._maintenance, shard.maintain)
            await loop.run_in_executor(self._maintenance, release_free_memory)
            await self.writers[number].purge()
        except Exception:
            # heads stay in memory and the store has everything: the next write tries again, but not at once
            log.exception("maintenance of collection %s, shard %d failed", self.name, number)
            await asyncio.sleep(0 if self._closed else RETRY_SECONDS)
        finally:
            del self._maintaining[number]

    def describe(self) -> dict[str, Any]:
        """What `GET /v1/collections/{c}` answers."""
        names = [version.id for version in self.document.versions]
        shards = []
        for number, shard in enumerate(self.index.shards):
            view = shard.view
            points = {names[version]: count for version, count in view.points().items()}
            shards.append({"shard": number, "points": points, "seq": view.seq, "parts": len(view.parts)})
        totals = {names[version]: count for version, count in self.index.points().items()}
        return {
            "name": self.name,
            "status": "ready" if self.ready else "loading",
            "points": sum(totals.values()),
            "points_per_version": totals,
            "bundle": self.active.bundle,
            "code": str(self.active.spec),
            "code_bytes": self.active.spec.code_size_bytes,
            "active_version": self.active.id,
            "compatible_versions": [self.active.id],
            "filterable": {key: str(kind) for key, kind in self.document.filterable.items()},
            "shards": shards,
            "bytes_in_memory": self.index.scan_size_bytes(),
            "created_at": self.document.created_at,
            "encoder_error": self._encoder_error.detail if self._encoder_error else None,
        }


def collection_folder(data_folder: Path, uid: str) -> Path:
    """Where the segments of a collection lie."""
    return data_folder / "collections" / uid
