"""Encoder: the embedding model and the binarizer of one bundle, behind one border that checks what comes in."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bebr.core.codes import CodeSpec, code_values, need_rescore, rescore_records, rescore_values
from bebr.core.scoring import RescoreQueries
from bebr.encoding.bundles.bundle import Bundle, no_binarizer, no_embedding_model
from bebr.encoding.bundles.manifest import TextKind
from bebr.encoding.embedding.model import EmbeddingModel, Text
from bebr.encoding.embedding.vectors import check_embeddings
from bebr.encoding.onnx.providers import CPU_ONLY, Device
from bebr.encoding.quantization.binarizer import Binarizer, Projection
from bebr.encoding.quantization.pair import encode_rescored, open_binarizer, open_rescore
from bebr.encoding.quantization.products import ToldProducts

WARM_UP_TEXTS = ("a short text", "a longer text of some more words, as passages are " * 8)


class Encoder:
    """What turns texts and embeddings into records and queries. All methods may be called from several threads.

    A bundle may lack one of its two halves; the methods that need it then raise InvalidOption. Raises DamagedBundle
    when a graph does not fit the manifest.
    """

    def __init__(
        self, bundle: Bundle, threads: int = 1, device: Device = CPU_ONLY, told: ToldProducts | None = None
    ) -> None:
        """told: what another process says of the binarizers, see `Binarizer`."""
        self.bundle = bundle
        self.takes_text = bundle.has_embedding_model
        """Whether it has an embedding model."""
        self._model = EmbeddingModel(bundle, threads, device=device) if bundle.has_embedding_model else None
        self._binarizer = open_binarizer(bundle, threads, told) if bundle.has_binarizer else None
        self._rescore = open_rescore(bundle, threads, told) if bundle.has_binarizer else None

    @property
    def batch_tokens(self) -> int:
        """Padded tokens that the embedding model computes at once."""
        return 1 if self._model is None else self._model.batch_tokens

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

    def embed_counted(
        self, texts: Sequence[Text], kind: TextKind, alone: bool = False
    ) -> tuple[NDArray[np.float32], list[int]]:
        """The same of texts or their token ids, and how many tokens the model read of each.

        alone: on the calling thread only.
        """
        if self._model is None:
            raise no_embedding_model(self.bundle.manifest)
        return self._model.embed_counted(texts, kind, alone)

    def tokenize(self, texts: Sequence[str], kind: TextKind, first: int = 0) -> list[list[int]]:
        """The token ids of each text, see `EmbeddingModel.tokenize`."""
        if self._model is None:
            raise no_embedding_model(self.bundle.manifest)
        return self._model.tokenize(texts, kind, first)

    @property
    def max_tokens(self) -> int:
        """Tokens that the embedding model reads of one text."""
        if self._model is None:
            raise no_embedding_model(self.bundle.manifest)
        return self._model.max_length

    def encode(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Checked embeddings (rows, dims) float32 -> records (rows, record_size_bytes) uint8."""
        if self._rescore is None:
            return self._opened.encode(embeddings)
        return encode_rescored(self._opened, self.steps, self._rescore, embeddings)

    @property
    def is_open(self) -> bool:
        """Whether `encode` can begin at once; else `open` comes first, in a thread."""
        return all(one.is_open for one in (self._binarizer, self._rescore) if one is not None)

    def open(self) -> None:
        """Raises DamagedBundle."""
        for one in (self._binarizer, self._rescore):
            if one is not None:
                one.open()

    def project(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Checked embeddings (rows, dims) float32 -> queries in code space (rows, spec.dims) float32."""
        return self._opened.project(embeddings)

    @cached_property
    def projection(self) -> Projection | None:
        """`project` and the rounding of queries as one, in the kernel; None: it is no product with a matrix."""
        return self._opened.projection(self.steps)

    def project_rescore(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Checked embeddings (rows, dims) float32 -> queries for rescore codes (rows, spec.rescore.dims) float32.

        Raises InvalidCode where the codes have no rescore code.
        """
        need_rescore(self.spec)
        assert self._rescore is not None, "a bundle whose spec has a rescore code has its graph"
        return self._rescore.project(embeddings)

    def rescore_queries(self, embeddings: NDArray[np.float32]) -> RescoreQueries:
        """The same as rescore codes take them."""
        assert self._rescore is not None, "a bundle whose spec has a rescore code has its graph"
        return self._rescore.queries(embeddings, self.spec)

    def decode(self, records: NDArray[np.uint8]) -> NDArray[np.float32]:
        """records (rows, record_size_bytes) uint8 -> the embeddings they represent (rows, embedding_dims) float32.

        Where there is a rescore code, the finer ones. Raises Incompatible where the binarizer's codes represent no
        embedding.
        """
        decoded = self._opened.decode(code_values(records, self.spec, self.steps))
        if self._rescore is not None:
            decoded += self._rescore.decode(rescore_values(rescore_records(records, self.spec), self.spec))
        return decoded

    @property
    def mean(self) -> NDArray[np.float32]:
        """(embedding_dims,) float32: the middle of what codes represent; zeros where the binarizer is not centered."""
        return self._opened.mean

    @property
    def exact_mean(self) -> NDArray[np.float64] | None:
        """The same as float64; None: it is zero."""
        return self._opened.exact_mean

    def code_query(self, records: NDArray[np.uint8]) -> NDArray[np.float32]:
        """records (rows, record_size_bytes) uint8 that are queries -> the query side of sdc (rows, dims) float32.

        sdc compares scan codes: what the rescore code knows of the query is left out.
        """
        return self._opened.code_query(code_values(records, self.spec, self.steps))

    @property
    def metric(self) -> NDArray[np.float32] | None:
        """(dims, dims) float32: products of what scan codes represent, see `Binarizer.metric`."""
        return self._opened.metric

    @property
    def _opened(self) -> Binarizer:
        if self._binarizer is None:
            raise no_binarizer(self.bundle.manifest)
        return self._binarizer

    def check_embeddings(self, values: ArrayLike) -> NDArray[np.float32]:
        """Embeddings from outside -> unit rows (rows, dims) float32.

        Raises DimensionMismatch, or InvalidVector naming the row. `vectors.split_embeddings` reports every bad row.
        """
        return check_embeddings(values, self.bundle.embedding_dims)

    def warm_up(self, encodes: bool = True) -> None:
        """Run everything once, so that the first request does not pay for it. encodes: also what makes records."""
        embeddings = np.ones((2, self.bundle.embedding_dims), np.float32)
        if self._model is not None:
            embeddings = self.embed(WARM_UP_TEXTS, TextKind.PASSAGE)
        if self._binarizer is not None:
            embeddings = self.check_embeddings(embeddings)
            if encodes:
                self.encode(embeddings)
            self.project(embeddings[:1])
            if self._rescore is not None:
                self.project_rescore(embeddings[:1])

    def close(self) -> None:
        """Stop the threads of this encoder; it must not be used afterwards."""
        if self._model is not None:
            self._model.close()
