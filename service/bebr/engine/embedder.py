"""Embeds texts by the model of a bundle, for callers who want the embeddings or codes themselves."""

import asyncio
from collections.abc import Sequence

from bebr.config import Limits
from bebr.encoding import BundleRegistry, TextKind
from bebr.engine.admission import Lane
from bebr.engine.collections.encoders import Encoders
from bebr.engine.inputs import check_text
from bebr.engine.results import Embedded
from bebr.engine.texts import TextQueues
from bebr.errors import InvalidOption

EVERYBODY = ""
"""Embeddings belong to no collection, so all requests take turns as one."""


class Embedder:
    """Embeds with any bundle on hand, whether a collection uses it or not."""

    def __init__(
        self, bundles: BundleRegistry, encoders: Encoders, limits: Limits, texts: TextQueues, lane: Lane
    ) -> None:
        self._bundles = bundles
        self._encoders = encoders
        self._limits = limits
        self._texts = texts
        self._lane = lane

    async def embed(self, model: str | None, texts: Sequence[str], kind: TextKind, with_codes: bool) -> Embedded:
        """Texts as embeddings, and as codes of the bundle where those are asked for.

        model: id of the bundle; None: the only one with an embedding model. Raises InvalidOption,
        InvalidText; Overloaded, DeadlineExceeded, Abandoned.
        """
        self._lane.check(EVERYBODY)
        encoder = await asyncio.to_thread(self._encoders.get, model or self._only_bundle())
        bundle = encoder.bundle
        if not bundle.has_embedding_model:
            raise InvalidOption(f"bundle '{bundle.id}' has no embedding model, so it takes no text", key="model")
        for number, text in enumerate(texts):
            check_text(text, True, self._limits.max_text_chars, f"input[{number}]")
        embeddings, tokens = await self._texts.embed(self._lane, encoder, texts, kind, EVERYBODY)
        records = await asyncio.to_thread(encoder.encode, embeddings) if with_codes else None
        return Embedded(bundle.id, embeddings, records, sum(tokens))

    def _only_bundle(self) -> str:
        names = [bundle.id for bundle in self._bundles.list() if bundle.has_embedding_model]
        if len(names) != 1:
            raise InvalidOption(f"'model' must name a bundle; those that take text: {names or 'none'}", key="model")
        return names[0]
