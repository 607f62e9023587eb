"""Texts -> embeddings: tokenizer and ONNX graph of one bundle, in sub-batches of bounded size.

Texts are sorted by length first, so that little padding is computed. Each sub-batch runs on one thread, and several
sub-batches run side by side: on ONNX Runtime that gives more texts per second than several threads on one sub-batch.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.encoding.bundles.bundle import Bundle
from bebr.encoding.bundles.manifest import TextKind
from bebr.encoding.embedding.tokenization import TextTokenizer
from bebr.encoding.onnx.providers import CPU_ONLY, Device
from bebr.encoding.onnx.session import (
    ATTENTION_MASK,
    EMBEDDING,
    FLOAT32,
    INPUT_IDS,
    INT64,
    check_signature,
    open_session,
)
from bebr.errors import DamagedBundle

TEXTS_PER_ROUND = 2048
"""Texts that are tokenized at once; bounds the memory of long texts, and still lets sorting by length pay."""

Tokens = NDArray[np.int64]
Text = str | list[int]
"""A text, or its token ids."""


class EmbeddingModel:
    """The embedding model of one bundle. `embed` may be called from several threads at once.

    Raises InvalidOption when the bundle has no embedding model, DamagedBundle when its files do not fit the manifest.
    """

    def __init__(
        self, bundle: Bundle, threads: int = 1, batch_tokens: int | None = None, device: Device = CPU_ONLY
    ) -> None:
        """batch_tokens: padded tokens of a sub-batch; None: as many as suit the device."""
        entry = bundle.embedding
        self.dims = bundle.embedding_dims
        self.max_length = entry.settings.max_length
        """Tokens that are read of a text."""
        self._prefixes = dict(entry.settings.prefixes)
        self._tokenizer = _open_tokenizer(bundle, entry.settings.max_length)
        path = bundle.path / entry.graph
        self._session = open_session(path, weights=entry.weights, device=device)
        device = device.check(self._session, bundle.id)
        inputs: dict[str, tuple[str, int | None]] = {INPUT_IDS: (INT64, None), ATTENTION_MASK: (INT64, None)}
        check_signature(self._session, path, inputs, {EMBEDDING: (FLOAT32, self.dims)})
        self.batch_tokens = 1 if entry.settings.alone else batch_tokens or device.batch_tokens
        """Padded tokens of a sub-batch."""
        # The calling thread works too, so one thread needs no pool, and a busy pool delays nobody.
        self._helpers = threads - 1 if device.is_cpu else 1  # that prepares texts, while the other waits
        self._pool = ThreadPoolExecutor(self._helpers, "embed") if self._helpers else None

    def embed(self, texts: Sequence[str], kind: TextKind) -> Floats:
        """texts -> embeddings (texts, dims) float32, unit rows, in the order of the texts.

        A text that is longer than the model's maximal length is cut there. Raises InvalidText naming the index of a
        text that is not valid Unicode.
        """
        return self.embed_counted(texts, kind)[0]

    def embed_counted(self, texts: Sequence[Text], kind: TextKind, alone: bool = False) -> tuple[Floats, list[int]]:
        """The same, and how many tokens the model read of each text, prefixes and special tokens included.

        alone: the calling thread does all the work, without the help of others.
        """
        if len(texts) == 1:  # most searches: all that is around the model's own time takes as long as a small model
            tokens = self._tokenize(texts, kind, 0)
            return self._run(tokens), [len(tokens[0])]
        embeddings = np.empty((len(texts), self.dims), np.float32)
        counts: list[int] = []
        for start in range(0, len(texts), TEXTS_PER_ROUND):
            tokens = self._tokenize(texts[start : start + TEXTS_PER_ROUND], kind, start)
            self._run_all(tokens, embeddings[start : start + TEXTS_PER_ROUND], 0 if alone else self._helpers)
            counts += map(len, tokens)
        return embeddings, counts

    def tokenize(self, texts: Sequence[str], kind: TextKind, first: int = 0) -> list[list[int]]:
        """The token ids of each text, prefix and special ones included. first: index of the first, for error messages.

        Raises InvalidText.
        """
        prefix = self._prefixes[kind]
        return self._tokenizer.encode([prefix + text for text in texts] if prefix else texts, first)

    def close(self) -> None:
        """Stop the threads of this model; it must not be used afterwards."""
        if self._pool is not None:
            self._pool.shutdown()

    def _tokenize(self, texts: Sequence[Text], kind: TextKind, start: int) -> list[list[int]]:
        unread = [text for text in texts if isinstance(text, str)]
        if len(unread) == len(texts):
            return self.tokenize(unread, kind, start)
        read = iter(self.tokenize(unread, kind) if unread else ())
        return [next(read) if isinstance(text, str) else text for text in texts]

    def _run_all(self, tokens: list[list[int]], embeddings: Floats, helpers: int) -> None:
        """Compute all rows of `embeddings`, with the help of some threads of the pool."""
        batches = deque(plan_batches([len(ids) for ids in tokens], self.batch_tokens))

        def work() -> None:
            while batches:
                try:
                    rows = batches.popleft()
                except IndexError:  # Another thread took the last one.
                    return
                embeddings[rows] = self._run([tokens[row] for row in rows])

        helpers = min(helpers, len(batches) - 1)
        futures = [self._pool.submit(work) for _ in range(helpers)] if self._pool is not None else []
        try:
            work()
        finally:
            batches.clear()  # After an error, so that nobody goes on in vain.
            errors = [future.exception() for future in futures if not future.cancel()]
        for error in errors:
            if error is not None:
                raise error

    def _run(self, tokens: list[list[int]]) -> Floats:
        """Token ids of one sub-batch -> embeddings (rows, dims) float32."""
        ids, mask = _padded(tokens)
        embeddings: Floats = self._session.run([EMBEDDING], {INPUT_IDS: ids, ATTENTION_MASK: mask})[0]
        return embeddings


def _padded(tokens: list[list[int]]) -> tuple[Tokens, Tokens]:
    """Token ids of texts -> ids and mask (texts, longest)."""
    if len(tokens) == 1:
        ids: Tokens = np.array(tokens, np.int64)
        return ids, np.ones(ids.shape, np.int64)
    lengths = np.array([len(ids) for ids in tokens])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    # The graph masks padding, so any valid id will do for it.
    ids = np.zeros(mask.shape, np.int64)
    ids[mask.astype(bool)] = np.concatenate([np.asarray(row, np.int64) for row in tokens])
    return ids, mask


def plan_batches(lengths: Sequence[int], max_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Group rows of similar length: each group has at most `max_tokens` padded tokens, or one row. Longest first.

    The longest first, so that threads that work side by side end at about the same time.
    """
    order = np.argsort(np.asarray(lengths, np.int64), kind="stable")[::-1]
    start = 0
    while start < len(order):
        end = start + max(1, max_tokens // max(1, lengths[order[start]]))
        yield order[start:end]
        start = end


def _open_tokenizer(bundle: Bundle, max_length: int) -> TextTokenizer:
    path = bundle.path / bundle.embedding.tokenizer
    try:
        return TextTokenizer(path.read_bytes(), max_length)
    except (OSError, ValueError) as error:
        raise DamagedBundle(
            f"bundle '{bundle.id}': {path.name} cannot be read: {error}", path=str(path), file=path.name
        ) from error
