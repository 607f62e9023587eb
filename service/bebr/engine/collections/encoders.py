"""Encoders by bundle, each loaded once; and what encodes for one collection, version by version."""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence

from bebr.encoding import Bundle, BundleRegistry
from bebr.encoding.adapters.adapter import Adapter, open_adapters
from bebr.encoding.encoder import Encoder
from bebr.encoding.onnx.providers import Device
from bebr.encoding.quantization.int8 import Int8Binarizer
from bebr.encoding.quantization.products import ToldProducts
from bebr.encoding.quantization.training_free import TrainingFree
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.inputs import CODES_ONLY, NO_TEXT
from bebr.errors import BebrError, InvalidOption

log = logging.getLogger(__name__)
Codec = Encoder | Int8Binarizer | TrainingFree
"""What turns embeddings into records and queries of one code version, and its records back into embeddings."""
RescoreCodec = Encoder | TrainingFree
"""Those that may make rescore codes."""
Adapters = dict[tuple[str, str], Adapter]
"""By fingerprints of two embedding models: from the one to the other."""


class CollectionEncoders:
    """What encodes for a collection. What could not be loaded is raised when it is needed."""

    def __init__(
        self,
        embedders: dict[str, Encoder | BebrError],
        codecs: dict[int, Codec | BebrError],
        adapters: Adapters,
        lost: Sequence[BebrError] = (),
    ) -> None:
        self._embedders = embedders
        """By fingerprint of the bundle whose embedding model it is. Vectors and codes that users bring have none."""
        self._codecs = codecs
        """By number of the version. Raw versions have none."""
        self.adapters: Mapping[tuple[str, str], Adapter] = adapters
        """Between the embedding models of the versions."""
        self._lost = lost
        """Why adapters that bundles name are not among them."""

    @property
    def problem(self) -> BebrError | None:
        """The first thing that could not be loaded."""
        parts = [*self._embedders.values(), *self._codecs.values(), *self._lost]
        return next((part for part in parts if isinstance(part, BebrError)), None)

    def takes_text(self, version: Version) -> bool:
        """Raises what went wrong with the bundle of the embedding model."""
        return version.model_fingerprint is not None and self.embedder(version).takes_text

    def embeds(self, version: Version) -> bool:
        """Whether texts can be embedded by the version's model now; unlike `takes_text` it never raises."""
        embedder = self._embedders.get(version.model_fingerprint or "")
        return isinstance(embedder, Encoder) and embedder.takes_text

    def sources(self, version: Version) -> list[str]:
        """What points of the version can be written from now: the fields of a point that hold it."""
        vectors = isinstance(self._codecs.get(version.number), Codec)
        return [
            *(["text"] if self.embeds(version) else []),
            *(["vector", "vector_b64"] if vectors else []),
            *(["code_b64"] if version.kind is not VersionKind.BUFFERED else []),
        ]

    def embedder(self, version: Version) -> Encoder:
        """Raises what went wrong with its bundle, or InvalidOption where the version has none."""
        embedder = self._embedders.get(version.model_fingerprint or "")
        if embedder is None:
            raise InvalidOption(NO_TEXT, key="text")
        if isinstance(embedder, BebrError):
            raise _copy_of(embedder)
        return embedder

    def codec(self, version: Version) -> Codec:
        """Raises what went wrong with its bundle, or InvalidOption where the version has none."""
        codec = self._codecs.get(version.number)
        if codec is None:
            raise InvalidOption(CODES_ONLY, key="vector")
        if isinstance(codec, BebrError):
            raise _copy_of(codec)
        return codec

    async def open_all(self) -> None:
        """Let all versions' embeddings be encoded at once, which may be wanted for queries. Raises DamagedBundle."""
        for codec in list(self._codecs.values()):
            if isinstance(codec, Encoder) and not codec.is_open:
                await asyncio.to_thread(codec.open)

    def dims(self, version: Version) -> int | None:
        """Dims of the embeddings that make codes of the version; None: it takes codes only."""
        return self.codec(version).embedding_dims if version.number in self._codecs else None

    def adapter(self, here: Version, there: Version) -> Adapter | None:
        """From the embedding model of one version to that of another."""
        pair = model_pair(here, there)
        return None if pair is None else self.adapters.get(pair)

    def add(self, number: int, codec: Codec) -> None:
        self._codecs[number] = codec

    def add_all(self, other: "CollectionEncoders") -> None:
        """Take over what was opened for a document with one more version. Readers see the old parts or the new ones."""
        self._embedders = other._embedders
        self._codecs = other._codecs
        self.adapters = other.adapters
        self._lost = other._lost


class Encoders:
    """All encoders of the process. Loading takes seconds: call everything here in a thread."""

    def __init__(
        self,
        bundles: BundleRegistry,
        threads: int,
        device: Device,
        told: ToldProducts | None = None,
        *,
        encodes: bool = True,
    ) -> None:
        """told: what processes of this service tell each other of binarizers. encodes: this one writes points."""
        self._told, self._encodes = told, encodes
        self._bundles = bundles
        self._device = device
        self._threads = threads
        self._lock = threading.Lock()
        self._loaded: dict[tuple[str, str | None], Encoder] = {}

    def get(self, bundle_id: str, fingerprint: str | None = None) -> Encoder:
        """The encoder of a bundle, loaded once.

        fingerprint: of the bundle that made codes; without it, the first bundle of that id is meant.
        """
        with self._lock:
            if (bundle_id, fingerprint) not in self._loaded:
                bundle = self._bundles.get(bundle_id, fingerprint)
                loaded = self._loaded.get((bundle_id, bundle.fingerprint))
                encoder = loaded or Encoder(bundle, self._threads, self._device, self._told)
                encoder.warm_up(self._encodes)
                self._loaded[bundle_id, fingerprint] = self._loaded[bundle_id, bundle.fingerprint] = encoder
            return self._loaded[bundle_id, fingerprint]

    def bundle(self, bundle_id: str, fingerprint: str | None = None) -> Bundle:
        """What the bundle's manifest says now: it may have learned to reach other bundles since it was loaded."""
        return self._bundles.get(bundle_id, fingerprint)

    def forget(self, document: CollectionDocument) -> None:
        """Let go of the encoders of a deleted collection's fitted bundles; whoever still uses one holds it."""
        with self._lock:
            for version in document.versions:
                if version.kind is VersionKind.FITTED and version.bundle is not None:
                    self._loaded.pop((version.bundle, None), None)
                    self._loaded.pop((version.bundle, version.fingerprint), None)

    def open(self, document: CollectionDocument) -> CollectionEncoders:
        """Load what a collection needs; what cannot be loaded is kept as the error that says why."""
        embedders: dict[str, Encoder | BebrError] = {}
        codecs: dict[int, Codec | BebrError] = {}
        used = [version for version in document.versions if not version.retired]
        for version in used:
            if version.model is not None and version.model_fingerprint is not None:
                embedders[version.model_fingerprint] = self._try(version.model, version.model_fingerprint)
            if (own := version.own_codec) is not None:
                codecs[version.number] = own
            elif version.bundle is not None:
                codecs[version.number] = self._try(version.bundle, version.fingerprint)
        return CollectionEncoders(embedders, codecs, *self._adapters(used, set(embedders)))

    def _adapters(self, versions: list[Version], models: set[str]) -> tuple[Adapters, list[BebrError]]:
        """Between every two models of which one's bundle says how it reaches the other; and why some are missing."""
        forward: Adapters = {}
        backward: Adapters = {}
        lost: list[BebrError] = []
        for model, fingerprint in dict.fromkeys((version.model, version.model_fingerprint) for version in versions):
            if model is None or fingerprint is None or len(models) == 1:
                continue
            try:
                bundle = self._bundles.get(model, fingerprint)
            except BebrError:
                continue  # its encoder could not be loaded either, and that error is kept
            for entry in bundle.manifest.compatible_with:
                if entry.fingerprint in models:
                    try:
                        there, back = open_adapters(bundle, entry)
                    except BebrError as error:
                        what = f"how bundle '{model}' reaches '{entry.bundle}' cannot be used: {error.detail}"
                        log.warning(what)
                        lost.append(type(error)(what, **error.fields))
                        continue
                    forward[fingerprint, entry.fingerprint] = there
                    backward.setdefault((entry.fingerprint, fingerprint), back)
        # where two bundles name each other, each decides about queries of its model
        return backward | forward, lost

    def _try(self, bundle_id: str, fingerprint: str | None) -> Encoder | BebrError:
        try:
            return self.get(bundle_id, fingerprint)
        except BebrError as error:
            log.warning("bundle %s cannot be used: %s", bundle_id, error.detail)
            return error


def model_pair(here: Version, there: Version) -> tuple[str, str] | None:
    """Fingerprints of the embedding models of two versions; None where one has no model."""
    if here.model_fingerprint is None or there.model_fingerprint is None:
        return None
    return here.model_fingerprint, there.model_fingerprint


def _copy_of(error: BebrError) -> BebrError:
    """The same error, without the traceback of when it was first raised."""
    return type(error)(error.detail, **error.fields)
