"""Encoders by bundle, each loaded once; and what encodes for one collection, version by version."""

import logging
import threading

from bebr.encoding import BundleCatalog
from bebr.encoding.encoder import Encoder
from bebr.encoding.staging import StagingBinarizer
from bebr.engine.document import CollectionDocument, Version
from bebr.errors import BebrError, InvalidOption

log = logging.getLogger(__name__)
Codec = Encoder | StagingBinarizer
"""What turns embeddings into records and queries of one code version, and its records back into embeddings."""


class CollectionEncoders:
    """What encodes for a collection. What could not be loaded is raised when it is asked for.

    embedder: of the texts, shared by all versions; None where the user brings vectors or codes. codecs: by number of
    the version; a version of the user's own codes has none.
    """

    def __init__(self, embedder: Encoder | BebrError | None, codecs: dict[int, Codec | BebrError]) -> None:
        self._embedder = embedder
        self._codecs = codecs

    @property
    def problem(self) -> BebrError | None:
        """The first thing that could not be loaded."""
        parts = [self._embedder, *self._codecs.values()]
        return next((part for part in parts if isinstance(part, BebrError)), None)

    @property
    def takes_text(self) -> bool:
        """Raises what went wrong with the bundle of the embedding model."""
        return self._embedder is not None and self.embedder.bundle.has_embedding_model

    @property
    def embedder(self) -> Encoder:
        """Raises what went wrong with its bundle, or InvalidOption where the collection has none."""
        if self._embedder is None:
            raise InvalidOption("this collection was made without a bundle, so it takes no text", key="text")
        if isinstance(self._embedder, BebrError):
            raise _raised_anew(self._embedder)
        return self._embedder

    def codec(self, version: Version) -> Codec:
        """Raises what went wrong with its bundle, or InvalidOption where the version has none."""
        codec = self._codecs.get(version.number)
        if codec is None:
            raise InvalidOption(
                "this collection was made without a bundle: it takes codes ('code_b64') only", key="vector"
            )
        if isinstance(codec, BebrError):
            raise _raised_anew(codec)
        return codec

    def dims(self, version: Version) -> int | None:
        """Dims of the embeddings that make codes of the version; None: it takes codes only."""
        return self.codec(version).embedding_dims if version.number in self._codecs else None

    def add(self, number: int, codec: Codec) -> None:
        self._codecs[number] = codec


class Encoders:
    """All encoders of the process. Loading takes seconds: call everything here in a thread."""

    def __init__(self, bundles: BundleCatalog, threads: int) -> None:
        self._bundles = bundles
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
                encoder = loaded or Encoder(bundle, self._threads)
                encoder.warm_up()
                self._loaded[bundle_id, fingerprint] = self._loaded[bundle_id, bundle.fingerprint] = encoder
            return self._loaded[bundle_id, fingerprint]

    def forget(self, document: CollectionDocument) -> None:
        """Let go of the encoders of a deleted collection's own bundles; whoever still uses one holds it."""
        with self._lock:
            for version in document.versions:
                if version.figures is not None and version.bundle is not None:
                    self._loaded.pop((version.bundle, None), None)
                    self._loaded.pop((version.bundle, version.fingerprint), None)

    def open(self, document: CollectionDocument) -> CollectionEncoders:
        """Load what a collection needs; what cannot be loaded is kept as the error that says why."""
        active = document.active_version
        embedder = None if active.model is None else self._try(active.model, active.model_fingerprint)
        codecs: dict[int, Codec | BebrError] = {}
        for version in document.versions:
            if version.staged_dims is not None:
                codecs[version.number] = StagingBinarizer(version.staged_dims)
            elif version.bundle is not None:
                codecs[version.number] = self._try(version.bundle, version.fingerprint)
        return CollectionEncoders(embedder, codecs)

    def _try(self, bundle_id: str, fingerprint: str | None) -> Encoder | BebrError:
        try:
            return self.get(bundle_id, fingerprint)
        except BebrError as error:
            log.warning("bundle %s cannot be used: %s", bundle_id, error.detail)
            return error


def _raised_anew(error: BebrError) -> BebrError:
    """The same error, without the traceback of when it was first raised."""
    return type(error)(error.detail, **error.fields)
