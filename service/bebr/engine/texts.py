"""Embeds texts for everybody: in small batches, on the threads of a lane, admitted and dropped by its rules.

A request is cut into pieces of texts of about one length. Pieces that wait together are embedded together, those of all
collections in turns. Between two pieces a request ends whose caller has left.

While anybody is served, jobs use half of the threads: a thread of low priority that loses its processor while it holds
the interpreter would hold up everybody.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr.coalescer import Coalescer
from bebr.config import Limits
from bebr.encoding import TextKind
from bebr.encoding.embedding.model import Text, plan_batches
from bebr.encoding.encoder import Encoder
from bebr.engine.admission import Admission, Lane
from bebr.engine.text_rate import TextRate
from bebr.engine.threads import Threads

PIECE_TOKENS = 1024
"""How many tokens, about, are embedded before it is checked again who still waits."""
MAX_TEXTS_TOGETHER = 64
WINDOW_TEXTS, WINDOW_CHARS = 2048, 1 << 20
"""Texts of a request, and their characters, that are tokenized in one go, to be sorted by their true lengths."""
CHARS_PER_TOKEN = 4
"""Of most languages with an alphabet; only a measure of work."""
YIELD_SECONDS = 0.01
"""After which a job looks again whether others are served."""
TOKENS_OF_TEXT = 4
"""What a text costs beside its own tokens."""

Embeddings = NDArray[np.float32]
Counted = tuple[Embeddings, list[int]]
"""Embeddings (texts, dims) float32, and how many tokens the model read of each text."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Texts that are embedded in one go."""

    texts: Sequence[Text]
    tokens: int
    """About."""


Queue = Coalescer[_Piece, Counted]


class _Model:
    """A model that embeds one kind of texts, and how fast it is."""

    def __init__(self, encoder: Encoder, kind: TextKind) -> None:
        self._encoder = encoder
        self._kind = kind
        self.rate = TextRate()

    def embed(self, texts: Sequence[Text], tokens: int) -> Counted:
        """The texts of one piece, or of several."""
        if len(texts) > 1 or not self.rate.is_next(tokens):
            return self._encoder.embed_counted(texts, self._kind)
        started = time.thread_time()
        found = self._encoder.embed_counted(texts, self._kind)
        self.rate.note(tokens, time.thread_time() - started)
        return found


class TextQueues:
    """The queues of texts: one for each lane, model and kind of text."""

    def __init__(self, admission: Admission, limits: Limits, threads: Threads, *, batching: bool) -> None:
        """batching: embed pieces of several requests together."""
        self._limits = limits
        self._together = MAX_TEXTS_TOGETHER if batching else 1
        self._admission = admission
        self._background = admission.background
        self._background_pieces = 0
        """Of jobs, under way."""
        self._background_threads = threads.background_threads
        self._whole = admission.embeddings
        """The lane that counts whole requests. In others, one that has begun yields to the next after each piece, so
        just its piece is in the way."""
        self._threads: dict[str, Executor] = {
            admission.query_texts.name: threads.query_encoding,
            admission.written_texts.name: threads.written_texts,
            admission.embeddings.name: threads.embedding,
            admission.background.name: threads.background,
        }
        """By name of the lane."""
        self._queues: dict[tuple[str, str, TextKind], tuple[Queue, _Model]] = {}
        """By lane, fingerprint of the model and kind."""

    async def embed(self, lane: Lane, encoder: Encoder, texts: Sequence[str], kind: TextKind, key: str) -> Counted:
        """texts -> embeddings (texts, dims) float32, in their order, and their tokens. key: whose turn it takes.

        Raises InvalidText; Overloaded, DeadlineExceeded, Abandoned.
        """
        lane.check(key)
        queue, model = self._queue(lane, encoder, kind)
        if len(texts) == 1:
            piece = _Piece([*texts], _tokens(texts[0], encoder.max_tokens))
            done = False
            here = not queue.busy and self._is_for_loop(lane) and model.rate.is_short(piece.tokens)
            lane.enter(key, piece.tokens)
            try:
                if here:
                    found = self._embed_here(model, piece)
                else:
                    found = await queue.submit(piece, key, lane.drop() if queue.busy else None)
                done = True
                return found
            finally:
                lane.leave(key, piece.tokens, done)
        return await self._embed_pieces(lane, queue, texts, encoder, kind, key)

    def _is_for_loop(self, lane: Lane) -> bool:
        """Whether a short text may be embedded on the event loop: that of the only search under way."""
        admission = self._admission
        return lane is admission.query_texts and admission.search_requests.requests <= 1 and admission.turn.is_free

    def _embed_here(self, model: _Model, piece: _Piece) -> Counted:
        started = time.perf_counter()
        found = model.embed(piece.texts, piece.tokens)
        self._admission.turn.use(time.perf_counter() - started)
        return found

    async def _embed_pieces(
        self, lane: Lane, queue: Queue, texts: Sequence[str], encoder: Encoder, kind: TextKind, key: str
    ) -> Counted:
        sizes = [_tokens(text, encoder.max_tokens) for text in texts]
        embeddings = np.empty((len(texts), encoder.embedding_dims), np.float32)
        counts = [0] * len(texts)
        begun = False
        left = sum(sizes) if lane is self._whole else 0
        lane.enter(key, left)
        try:
            async for places, rows_of in self._pieces(lane, encoder, texts, sizes, kind):
                piece = _Piece(rows_of, sum(sizes[place] for place in places))
                if lane is not self._whole:
                    left = piece.tokens
                    lane.add(key, left)
                rows, tokens = await queue.submit(piece, key, lane.drop(begun=begun))
                begun = True
                embeddings[places] = rows
                for place, count in zip(places, tokens, strict=True):
                    counts[place] = count
                lane.advance(key, piece.tokens)
                left -= piece.tokens
        finally:
            lane.leave(key, left, done=False)
        return embeddings, counts

    async def _pieces(
        self, lane: Lane, encoder: Encoder, texts: Sequence[str], sizes: Sequence[int], kind: TextKind
    ) -> AsyncIterator[tuple[list[int], Sequence[Text]]]:
        """The places of the texts of each piece, and these texts, as token ids where there are several pieces."""
        if sum(sizes) <= _piece_tokens(encoder):
            yield list(range(len(texts))), texts
            return
        loop = asyncio.get_running_loop()
        for start, end in _windows(texts):
            tokens = await loop.run_in_executor(
                self._threads[lane.name], encoder.tokenize, texts[start:end], kind, start
            )
            for places in _cut([len(ids) for ids in tokens], encoder.batch_tokens, _piece_tokens(encoder)):
                yield [start + place for place in places], [tokens[place] for place in places]

    def _queue(self, lane: Lane, encoder: Encoder, kind: TextKind) -> tuple[Queue, _Model]:
        name = (lane.name, encoder.bundle.fingerprint, kind)
        if name not in self._queues:
            background = lane is self._background
            threads, share = self._threads[lane.name], self._limits.background_percent / 100
            model = _Model(encoder, kind)

            def work(texts: Sequence[Text], tokens: int) -> Counted:
                if not background:
                    return model.embed(texts, tokens)
                started = time.perf_counter()
                found = encoder.embed_counted(texts, kind, alone=True)
                time.sleep((time.perf_counter() - started) * (1 / share - 1))
                return found

            async def run(pieces: list[_Piece]) -> list[Counted]:
                texts = [text for piece in pieces for text in piece.texts]
                async with self._room_for_others() if background else nullcontext():
                    rows, tokens = await asyncio.get_running_loop().run_in_executor(
                        threads, work, texts, pieces[0].tokens
                    )
                return list(_split(pieces, rows, tokens))

            queue = Coalescer(
                run,
                what="texts",
                max_batch=self._together if self._together == 1 else _texts_together(_piece_tokens(encoder)),
                max_queue=self._limits.max_queue,
                width=self._background_threads if background else 1,
                size=lambda piece: piece.tokens,
                max_size=_piece_tokens(encoder),
            )
            self._queues[name] = queue, model
        return self._queues[name]

    @asynccontextmanager
    async def _room_for_others(self) -> AsyncIterator[None]:
        """Around a piece of a job."""
        while self._admission.is_serving():
            if self._background_pieces < max(1, self._background_threads // 2):
                break
            await asyncio.sleep(YIELD_SECONDS)
        self._background_pieces += 1
        try:
            yield
        finally:
            self._background_pieces -= 1


def _tokens(text: str, most: int) -> int:
    return TOKENS_OF_TEXT + min(most, len(text) // CHARS_PER_TOKEN)


def _piece_tokens(encoder: Encoder) -> int:
    """Tokens of a piece: more where an accelerator takes more at once."""
    return max(PIECE_TOKENS, 2 * encoder.batch_tokens)


def _texts_together(piece_tokens: int) -> int:
    """Texts of a piece."""
    return MAX_TEXTS_TOGETHER * piece_tokens // PIECE_TOKENS


def _windows(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """First and last place, and one more, of the texts that are tokenized together."""
    start = chars = 0
    for place, text in enumerate(texts):
        if place > start and (place - start == WINDOW_TEXTS or chars + len(text) > WINDOW_CHARS):
            yield start, place
            start, chars = place, 0
        chars += len(text)
    yield start, len(texts)


def _cut(lengths: Sequence[int], batch_tokens: int, most: int) -> Iterator[list[int]]:
    """Tokens of texts -> the places of each piece: whole batches of the model, of at most so many padded tokens."""
    piece: list[int] = []
    tokens = 0
    for rows in plan_batches(lengths, batch_tokens):
        size = lengths[rows[0]] * len(rows)
        if piece and tokens + size > most:
            yield piece
            piece, tokens = [], 0
        piece += rows.tolist()
        tokens += size
    yield piece


def _split(pieces: Sequence[_Piece], rows: Embeddings, tokens: list[int]) -> Iterator[Counted]:
    start = 0
    for piece in pieces:
        end = start + len(piece.texts)
        yield rows[start:end], tokens[start:end]
        start = end
