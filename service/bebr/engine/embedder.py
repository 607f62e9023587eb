"""Embeds texts by the model of a bundle, for callers who want the embeddings or codes themselves."""

import asyncio
import re
from collections.abc import Sequence

from bebr.config import Limits
from bebr.encoding import Bundle, BundleRegistry, TextKind
from bebr.engine.admission import Lane
from bebr.engine.answers import too_large
from bebr.engine.collections.encoders import Encoders
from bebr.engine.inputs import check_text
from bebr.engine.results import Embedded
from bebr.engine.texts import TextQueues
from bebr.errors import BundleNotFound, InvalidOption

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

    async def embed(
        self, model: str | None, texts: Sequence[str], kind: TextKind, with_codes: bool, bytes_per_value: float
    ) -> Embedded:
        """Texts as embeddings, and as codes of the bundle where those are asked for.

        model: id of the bundle, or its name for the newest version; None: the only one with an embedding model. Raises
        InvalidOption, InvalidText; Overloaded, DeadlineExceeded, Abandoned.
        """
        self._lane.check(EVERYBODY)
        encoder = await asyncio.to_thread(lambda: self._encoders.get(self._id_of(model)))
        bundle = encoder.bundle
        if not bundle.has_embedding_model:
            raise InvalidOption(f"bundle '{bundle.id}' has no embedding model, so it takes no text", key="model")
        if len(texts) * encoder.embedding_dims * bytes_per_value > self._limits.max_answer_bytes:
            raise too_large(self._limits.max_answer_bytes)
        for number, text in enumerate(texts):
            check_text(text, True, self._limits.max_text_chars, f"input[{number}]")
        embeddings, tokens = await self._texts.embed(self._lane, encoder, texts, kind, EVERYBODY)
        records = await asyncio.to_thread(encoder.encode, embeddings) if with_codes else None
        return Embedded(bundle.id, embeddings, records, sum(tokens))

    def list_models(self) -> list[Bundle]:
        """The bundles with an embedding model."""
        return [bundle for bundle in self._bundles.list() if bundle.has_embedding_model]

    def find_model(self, model: str) -> Bundle:
        """The bundle with an embedding model that `embed` uses for this name. Raises BundleNotFound."""
        found = {bundle.id: bundle for bundle in self.list_models()}
        bundle_id = self._id_of(model)
        if bundle_id not in found:
            raise BundleNotFound(f"no model {model!r:.120}; on hand: {', '.join(found) or 'none'}", key="model")
        return found[bundle_id]

    def _id_of(self, model: str | None) -> str:
        if model is None:
            return self._only_bundle()
        if "@" in model:
            return model
        versions = [bundle for bundle in self.list_models() if bundle.name == model]
        return max(versions, key=lambda bundle: _by_number(bundle.version)).id if versions else model

    def _only_bundle(self) -> str:
        names = [bundle.id for bundle in self.list_models()]
        if len(names) != 1:
            raise InvalidOption(f"'model' must name a bundle; those that take text: {names or 'none'}", key="model")
        return names[0]


def _by_number(version: str) -> list[tuple[int, str]]:
    """A key that puts version 10 after version 9, and 1.2 before 1.10."""
    return [(int(digits or -1), text) for digits, text in re.findall(r"(\d+)|(\D+)", version)]
