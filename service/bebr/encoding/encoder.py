"""Encoder: the embedding model and the binarizer of one bundle, behind one border that checks what comes in."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bebr.core.codes import CodeSpec, grid_values, split_records, unpack_levels
from bebr.encoding.binarizer import Binarizer
from bebr.encoding.bundle import Bundle, no_binarizer, no_embedding_model
from bebr.encoding.embedding_model import EmbeddingModel
from bebr.encoding.manifest import TextKind
from bebr.encoding.vectors import check_embeddings
from bebr.errors import Incompatible

LINEAR_WITHIN = 1e-3
"""A projection counts as linear when it errs by no more than this share of its largest value."""
WARM_UP_TEXTS = ("a short text", "a longer text of some more words, as passages are " * 8)


class Encoder:
    """What turns texts and embeddings into records and queries. All methods may be called from several threads.

    A bundle may lack one of its two halves; the methods that need it then raise InvalidOption. Raises DamagedBundle
    when a graph does not fit the manifest.
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self.bundle = bundle
        self._model = EmbeddingModel(bundle, threads) if bundle.has_embedding_model else None
        self._binarizer: Binarizer | None = None
        if bundle.has_binarizer:
            self._binarizer = Binarizer(
                bundle.path / bundle.binarizer.graph, bundle.spec, bundle.embedding_dims, threads
            )

    @property
    def spec(self) -> CodeSpec:
        return self.bundle.spec

    @property
    def steps(self) -> NDArray[np.float32]:
        """(blocks,) float32."""
        return self.bundle.steps

    @property
    def embedding_dims(self) -> int:
        return self.bundle.embedding_dims

    def embed(self, texts: Sequence[str], kind: TextKind) -> NDArray[np.float32]:
        """texts -> embeddings (texts, dims) float32, unit rows. Raises InvalidText."""
        if self._model is None:
            raise no_embedding_model(self.bundle.manifest)
        return self._model.embed(texts, kind)

    def count_tokens(self, texts: Sequence[str], kind: TextKind) -> int:
        """How many tokens the embedding model reads of these texts."""
        if self._model is None:
            raise no_embedding_model(self.bundle.manifest)
        return self._model.count_tokens(texts, kind)

    def encode(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Checked embeddings (rows, dims) float32 -> records (rows, record_size_bytes) uint8."""
        if self._binarizer is None:
            raise no_binarizer(self.bundle.manifest)
        return self._binarizer.encode(embeddings)

    def project(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Checked embeddings (rows, dims) float32 -> queries in code space (rows, spec.dims) float32."""
        if self._binarizer is None:
            raise no_binarizer(self.bundle.manifest)
        return self._binarizer.project(embeddings)

    def decode(self, records: NDArray[np.uint8]) -> NDArray[np.float32]:
        """records (rows, record_size_bytes) uint8 -> what they stand for (rows, embedding_dims) float32: Q (gain v).

        Its inner product with an embedding f is adc(f, record), but for the rounding of queries. That holds where the
        projection of queries is linear, f -> Q^T f. Raises Incompatible where it is not.
        """
        codes, gains = split_records(records)
        grid = grid_values(unpack_levels(codes, self.spec), self.spec).astype(np.float32)
        values = grid * np.repeat(self.steps, self.spec.block_dims) * gains.astype(np.float32)[:, None]
        decoded: NDArray[np.float32] = (values @ self._query_matrix.T).astype(np.float32)
        return decoded

    @cached_property
    def _query_matrix(self) -> NDArray[np.float32]:
        """Q (embedding_dims, spec.dims) float32: what the projection makes of every axis."""
        matrix = self.project(np.eye(self.embedding_dims, dtype=np.float32))
        sample = np.random.default_rng(0).standard_normal((16, self.embedding_dims)).astype(np.float32)
        sample /= np.linalg.norm(sample, axis=1, keepdims=True)
        projected = self.project(sample)
        if np.abs(projected - sample @ matrix).max() > LINEAR_WITHIN * np.abs(projected).max():
            raise Incompatible(
                f"codes of '{self.bundle.id}' cannot be compared with those of other versions: its projection is not "
                "linear; search by text or vector instead",
                id=self.bundle.id,
            )
        return matrix

    def check_embeddings(self, values: ArrayLike) -> NDArray[np.float32]:
        """Embeddings from outside -> unit rows (rows, dims) float32.

        Raises DimensionMismatch, or InvalidVector naming the row. `vectors.split_embeddings` reports every bad row.
        """
        return check_embeddings(values, self.bundle.embedding_dims)

    def warm_up(self) -> None:
        """Run everything once, so that the first request does not pay for it."""
        embeddings = np.ones((2, self.bundle.embedding_dims), np.float32)
        if self._model is not None:
            embeddings = self.embed(WARM_UP_TEXTS, TextKind.PASSAGE)
        if self._binarizer is not None:
            embeddings = self.check_embeddings(embeddings)
            self.encode(embeddings)
            self.project(embeddings[:1])

    def close(self) -> None:
        """Stop the threads of this encoder; it must not be used afterwards."""
        if self._model is not None:
            self._model.close()
