"""A reservoir: embeddings, to 8 bits a dim, of a random sample of a collection's points, kept in the store.

Codes cannot be fitted to again, so what they were made of is kept of some points: of those whose keys are smallest
(`core/sampling.py`). A point that is written again takes its own place. Points that are deleted are left out when the
sample is read. The rows lie in pages, one document each, and one more document says which pages count; pages are only
added, until a third of their rows is superfluous and they are written anew. What is not saved yet when the process is
killed is missing from the sample, and nothing else: a page, or some more while the store is busy.

Several services that share a store add pages of their own: who finds that another one was first, goes on from there.
"""

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from bebr.core.arrays import Floats
from bebr.core.sampling import ALL, sample_keys, smallest
from bebr.encoding.quantization.int8 import Int8Binarizer
from bebr.errors import DamagedStore, StaleDocument
from bebr.store import RESERVOIR, RESERVOIR_PAGE, Document, MetadataStore, reservoir_page_name

log = logging.getLogger(__name__)
PAGE_ROWS = 256
MAX_PENDING = 16 * PAGE_ROWS
"""Rows that wait for a store that is away; more are not taken."""
SUPERFLUOUS = 1.5
"""Pages are written anew once they hold this many times the rows that count."""
Rows = dict[str, bytes]
"""Records of embeddings, by id of the point."""
Existing = Callable[[list[str]], Awaitable[Set[str]]]
"""Which of these points exist."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What the store says of a reservoir."""

    limit: int
    """How many points it is for."""
    bound: int
    """Points with keys below it belong to it."""
    dims: int
    """Of the embeddings."""
    model: str | None
    """Fingerprint of the bundle whose model makes them; None where the user brings them."""
    oldest: int = 0
    """Number of the oldest page that may be there."""
    first: int = 0
    """Number of the first page that counts."""
    next: int = 0
    """Number of the next page."""
    rows: int = 0
    """Rows of the pages that count, those of points written again included."""
    added: int = 0
    """Rows that were ever added."""
    measured: int = 0
    """How many these were when the codes of its points were measured last."""


class Reservoir:
    """The reservoir of one collection. It takes nothing until it is opened."""

    def __init__(self, store: MetadataStore, uid: str) -> None:
        self._store = store
        self._uid = uid
        self.contents: Contents | None = None
        """None: there is none."""
        self._codec: Int8Binarizer | None = None
        self._stored: Document | None = None
        """What the store had last."""
        self._pending: Rows = {}
        """Records that are not saved yet, by id."""
        self._lock = asyncio.Lock()
        """Held by whoever changes pages."""

    @property
    def is_due(self) -> bool:
        """Whether a page is to be saved."""
        return len(self._pending) >= max(1, min(PAGE_ROWS, self.limit // 8))

    @property
    def limit(self) -> int:
        """For how many points it is."""
        return 0 if self.contents is None else self.contents.limit

    @property
    def fresh(self) -> int:
        """Rows that came since the codes of its points were measured."""
        return 0 if self.contents is None else self.contents.added - self.contents.measured

    async def load(self) -> None:
        """Go on from what the store has; one that is damaged is none."""
        async with self._lock:
            await self._load()

    async def _load(self) -> None:
        try:
            document = await self._store.get_document(RESERVOIR, self._uid)
        except DamagedStore as error:
            log.error("the sample of collection %s is lost until its next fit: %s", self._uid, error.detail)
            return
        self._stored = document
        if document is None:
            self.contents, self._codec = None, None
            self._pending.clear()
            return
        before, contents = self.contents, Contents(**document)
        if before is not None and (before.dims, before.model) != (contents.dims, contents.model):
            self._pending.clear()
        self._use(contents)

    async def open(self, limit: int, drawn_from: Sequence[str], dims: int, model: str | None) -> None:
        """Take embeddings of a model from now on; what there was is dropped.

        drawn_from: ids of the points that there are. Those of them that belong to it are still to be offered.
        """
        keys = np.sort(sample_keys(drawn_from))
        bound = int(keys[limit]) if len(keys) > limit else ALL
        async with self._lock:
            await self._load()
            oldest, first = (0, 0) if self.contents is None else (self.contents.oldest, self.contents.next)
            contents = Contents(limit, bound, dims, model, oldest, first, first, measured=min(limit, len(keys)))
            self._pending.clear()
            await self._save(contents, anyway=True)
            await self._clean(contents)

    async def close(self) -> None:
        """Take nothing any more, and remove what there is."""
        async with self._lock:
            if (contents := self.contents) is not None:
                self.contents, self._codec = None, None
                self._pending.clear()
                for number in range(contents.oldest, contents.next + 1):
                    await self._store.delete_document(RESERVOIR_PAGE, self._name(number))
                await self._store.delete_document(RESERVOIR, self._uid)

    def takes(self, model: str | None, dims: int) -> bool:
        """Whether embeddings of a model belong to it."""
        contents = self.contents
        return contents is not None and contents.model == model and contents.dims == dims

    def draw(self, ids: Sequence[str]) -> list[int]:
        """The places of the ids that belong to it."""
        if self.contents is None or len(self._pending) >= MAX_PENDING:
            return []
        return np.flatnonzero(sample_keys(ids) < self.contents.bound).tolist()

    def encode(self, ids: Sequence[str], rows: Floats) -> Rows:
        """ids and their embeddings (ids, dims) float32 -> those that belong to it. For threads."""
        codec, places = self._codec, self.draw(ids)
        if codec is None or not places:
            return {}
        return dict(zip((ids[place] for place in places), map(bytes, codec.encode(rows[places])), strict=True))

    def add(self, rows: Rows) -> None:
        """Keep rows that belong to it; `save` makes them durable."""
        self._pending |= rows

    async def save(self) -> None:
        """Save what is pending as pages. Raises StoreUnavailable; nothing is lost then."""
        async with self._lock:
            while self._pending and self.contents is not None:
                some = dict(islice(self._pending.items(), PAGE_ROWS))
                try:
                    await self._append(self.contents, some)
                except StaleDocument:
                    await self._skip(self.contents.next)
                    continue
                for point_id, record in some.items():
                    if self._pending.get(point_id) is record:
                        del self._pending[point_id]

    async def _append(self, contents: Contents, some: Rows) -> None:
        """One page more. Raises StaleDocument where another service was first."""
        name = self._name(contents.next)
        await self._store.replace_documents(RESERVOIR_PAGE, {name: _page(some)}, [], expect={name: None})
        rows, added = contents.rows + len(some), contents.added + len(some)
        await self._save(replace(contents, next=contents.next + 1, rows=rows, added=added))

    async def _skip(self, page: int) -> None:
        """Another service was first: go on from what it has made. Where it has made nothing, a page without a place was
        left by a crash: it gets one, and counts."""
        await self._load()
        if (contents := self.contents) is not None and contents.next == page:
            with suppress(StaleDocument):
                await self._save(replace(contents, next=page + 1))

    async def read(self, existing: Existing) -> Rows:
        """Records of the points that belong to it and exist, by id, in order of their keys."""
        async with self._lock:
            if self.contents is not None:
                await self._load()  # other services have added some
            return await self._read(existing)

    async def compact(self, existing: Existing) -> None:
        """Write the pages anew where they hold many more rows than count."""
        async with self._lock:
            if self.contents is None or self.contents.rows <= SUPERFLUOUS * self.contents.limit:
                return
            await self._load()
            rows = await self._read(existing)
            if (contents := self.contents) is None:
                return
            ids, number, bound = list(rows), contents.next, contents.bound
            if len(ids) > contents.limit:
                bound = int(sample_keys(ids[contents.limit :][:1])[0])
                ids = ids[: contents.limit]
            for start in range(0, len(ids), PAGE_ROWS):
                page = _page({point_id: rows[point_id] for point_id in ids[start : start + PAGE_ROWS]})
                name = self._name(number)
                await self._store.replace_documents(RESERVOIR_PAGE, {name: page}, [], expect={name: None})
                number += 1
            contents = replace(contents, bound=bound, first=contents.next, next=number, rows=len(ids))
            await self._save(contents)
            await self._clean(contents)

    async def note_measured(self) -> None:
        """The codes of its points have just been measured."""
        async with self._lock:
            while self.contents is not None:
                try:
                    await self._save(replace(self.contents, measured=self.contents.added))
                    return
                except StaleDocument:
                    await self._load()

    async def _read(self, existing: Existing) -> Rows:
        rows: Rows = {}
        if self.contents is None:
            return rows
        for number in range(self.contents.first, self.contents.next):
            try:
                document = await self._store.get_document(RESERVOIR_PAGE, self._name(number))
            except DamagedStore as error:
                log.error("a part of the sample of collection %s is lost: %s", self._uid, error.detail)
                continue
            if document is not None:
                rows |= _rows(document)
        rows |= self._pending
        there = await existing(list(rows))
        ids = [point_id for point_id in rows if point_id in there]
        keys = sample_keys(ids)
        drawn = smallest(keys, int((keys < self.contents.bound).sum()))
        return {ids[place]: rows[ids[place]] for place in drawn.tolist()}

    async def _clean(self, contents: Contents) -> None:
        """Delete the pages that count no more."""
        for number in range(contents.oldest, contents.first):
            await self._store.delete_document(RESERVOIR_PAGE, self._name(number))
        await self._save(replace(contents, oldest=contents.first))

    def _use(self, contents: Contents) -> None:
        self.contents, self._codec = contents, Int8Binarizer(contents.dims)

    async def _save(self, contents: Contents, anyway: bool = False) -> None:
        """Raises StaleDocument where another service has changed it meanwhile, unless it is to be replaced anyway."""
        document = asdict(contents)
        expect = None if anyway else {self._uid: self._stored}
        await self._store.replace_documents(RESERVOIR, {self._uid: document}, [], expect=expect)
        self._stored = document
        self._use(contents)

    def _name(self, number: int) -> str:
        return reservoir_page_name(self._uid, number)


def _page(rows: Rows) -> dict[str, Any]:
    return {"ids": list(rows), "records": base64.b64encode(b"".join(rows.values())).decode()}


def _rows(document: dict[str, Any]) -> Rows:
    records = base64.b64decode(document["records"])
    size = len(records) // max(1, len(document["ids"]))
    return {point_id: records[n * size : (n + 1) * size] for n, point_id in enumerate(document["ids"])}
