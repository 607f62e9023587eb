"""Runs a binarizer's graph: embeddings -> code-space vectors of queries, or records of points.

The graph has the input `embedding` (n, embedding_dims) float32 and the outputs `projected` (n, dims) float32, `levels`
(n, dims) uint8 and `gain` (n,) float16. How it computes them is the graph's affair; here it is only held to that shape.
"""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from bebr import kernel
from bebr.core.arrays import Floats
from bebr.core.codes import CodeSpec
from bebr.encoding.onnx.session import FLOAT32, check_signature, cut_out, open_session, read_graph
from bebr.encoding.quantization.products import Product, ToldProduct
from bebr.encoding.quantization.rows import check_shape
from bebr.errors import DamagedBundle, Incompatible
from bebr.kernel import records as kernel_records

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Projection = kernel.Projection
BATCH_ROWS = 256
"""Rows per call of the graph: its intermediate arrays then stay in the cache."""
LINEAR_WITHIN = 1e-3
"""A projection counts as linear when it errs by no more than this share of its largest value."""
ROUNDING = 1e-5
"""What float32 leaves of a product, as a share of its largest value, whichever way it is summed."""
FLOAT16 = "tensor(float16)"
UINT8 = "tensor(uint8)"


class Columns(NamedTuple):
    """The columns of a matrix, each once where some are others times a power of two."""

    matrix: Floats
    """(size, distinct)."""
    of: NDArray[np.int64] | None
    """(dims,): which of them each column is; None: all are distinct."""
    factors: Floats
    """(dims,): powers of two that they are multiplied by."""


def distinct_columns(matrix: Floats) -> Columns:
    """Products with them are the same to the last bit, for a power of two changes no digit.

    A rescore code cuts the levels of an axis into parts of several blocks, which weigh by powers of two.
    """
    exponents = np.frexp(np.abs(matrix).max(axis=0))[1]
    scaled = np.ldexp(matrix, -exponents)
    first: dict[bytes, int] = {}
    of = np.array([first.setdefault(column.tobytes(), len(first)) for column in scaled.T])
    if len(first) == len(of):
        return Columns(matrix, None, np.ones(len(of), np.float32))
    distinct = np.ascontiguousarray(scaled[:, np.unique(of, return_index=True)[1]])
    return Columns(distinct, of, np.ldexp(np.float32(1), exponents))


class Binarizer:
    """One opened graph. `project` and `encode` may be called from several threads at once."""

    def __init__(
        self, path: Path, spec: CodeSpec, embedding_dims: int, threads: int = 1, told: ToldProduct | None = None
    ) -> None:
        """Open the graph in `path`. Raises DamagedBundle when it does not load or does not fit `spec` and dims.

        told: where another process says that it has done so, and what it found, it is opened once it is needed.
        """
        self.spec = spec
        self.embedding_dims = embedding_dims
        self._path, self._threads, self._told = path, threads, told
        product = None if told is None else told.read()
        self._product = product if product is not None and product.matrix.shape == (embedding_dims, spec.dims) else None
        self.mean = self._open() if self._product is None else self._product.mean
        """(embedding_dims,) float32: the middle of what codes represent; zeros where the graph names none."""
        self.exact_mean = self.mean.astype(np.float64) if self.mean.any() else None
        """The same as float64; None: it is zero."""

    def _open(self) -> Floats:
        """Open the graph -> the mean that it names."""
        session, dims = open_session(self._path, self._threads), self.spec.dims
        outputs = {"projected": (FLOAT32, dims), "levels": (UINT8, dims), "gain": (FLOAT16, None)}
        check_signature(session, self._path, {"embedding": (FLOAT32, self.embedding_dims)}, outputs)
        graph = read_graph(self._path)
        self._session, self._query_session = self._open_for_points(graph), self._open_for_queries(graph)
        means = [numpy_helper.to_array(value) for value in graph.graph.initializer if value.name == "mean"]
        return np.asarray(means[0], np.float32) if means else np.zeros(self.embedding_dims, np.float32)

    # ONNX Runtime computes every node of a graph whatever is fetched from it, so queries and points get a session each.
    # That of queries has one thread: waking a second one costs more than a row, and on a busy machine a hundred times
    # more.

    def _open_for_points(self, graph: ModelProto) -> "InferenceSession":
        return open_session(self._path, self._threads, cut_out(graph, ["levels", "gain"]))

    def _open_for_queries(self, graph: ModelProto) -> "InferenceSession":
        return open_session(self._path, 1, cut_out(graph, ["projected"]))

    @property
    def is_open(self) -> bool:
        """Whether `encode` can begin at once."""
        return "_session" in self.__dict__

    def open(self) -> None:
        """So that it can; takes a moment where it could not. Raises DamagedBundle."""
        assert self._session

    @cached_property
    def _session(self) -> "InferenceSession":
        return self._open_for_points(self._read_late())

    @cached_property
    def _query_session(self) -> "InferenceSession":
        return self._open_for_queries(self._read_late())

    def _read_late(self) -> ModelProto:
        """The graph, which is needed although it was not opened at first."""
        assert self._told is not None, "else it was"
        self._told.check_graph()
        return read_graph(self._path)

    def project(self, embeddings: Floats) -> Floats:
        """embeddings (rows, embedding_dims) float32 -> (rows, dims) float32: the query side of adc.

        Where the graph multiplies by a matrix, the kernel does that in its place: it takes a fraction of the time for
        one row, and a row has the same product alone and among others. Raises DimensionMismatch on another shape.
        """
        if embeddings.shape[1:] != (self.embedding_dims,):  # every query comes here
            check_shape(embeddings, self.embedding_dims)
        if self._columns is not None:
            products = kernel.project(np.ascontiguousarray(embeddings, np.float32), self._columns.matrix)
            if self._columns.of is not None:
                products = products.take(self._columns.of, axis=1)
                products *= self._columns.factors
            return products
        return self._run_projection(embeddings)

    def _run_projection(self, embeddings: Floats) -> Floats:
        (projected,) = self._query_session.run(["projected"], {"embedding": embeddings})
        return cast(Floats, projected)

    def projection(self, steps: NDArray[np.float32]) -> kernel.Projection | None:
        """`project` and the rounding of queries as one; None: the graph does not multiply by a matrix."""
        if self._columns is None:
            return None
        return kernel.Projection(self.spec, *self._columns, steps)

    def encode(self, embeddings: Floats) -> NDArray[np.uint8]:
        """embeddings (rows, embedding_dims) float32 -> records (rows, record_size_bytes) uint8.

        Raises DimensionMismatch on another shape, DamagedBundle when the graph makes levels over those of `spec`.
        """
        check_shape(embeddings, self.embedding_dims)
        records = np.empty((len(embeddings), self.spec.record_size_bytes), np.uint8)
        for start in range(0, len(embeddings), BATCH_ROWS):
            batch = slice(start, start + BATCH_ROWS)
            self.write_records(embeddings[batch], records[batch])
        return records

    def write_records(
        self, embeddings: Floats, records: NDArray[np.uint8], first_byte: int = 0
    ) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """Write the records of at most BATCH_ROWS embeddings (rows, embedding_dims) float32 from `first_byte` of each
        of `records` (rows, size) uint8 on -> their levels (rows, dims) uint8 and gains (rows,) float16.

        Raises DamagedBundle when the graph makes levels over those of `spec`.
        """
        levels, gains = self._session.run(["levels", "gain"], {"embedding": embeddings})
        if not kernel_records.write_records(levels, gains, self.spec, records, first_byte):
            raise DamagedBundle(f"{self._path.name} makes levels over those of '{self.spec}'", file=self._path.name)
        return levels, gains

    def decode(self, values: Floats) -> Floats:
        """values (rows, dims) float32, as `core.codes.code_values` -> embeddings (rows, embedding_dims) they represent.

        The inner product of one with an embedding f is adc of f and the code, up to a constant per f, where the
        projection of queries is linear, f -> Q^T f: it is mean + Q values. Raises Incompatible where it is not.
        """
        if self._query_matrix is None:
            raise Incompatible(
                "codes of a binarizer whose projection is not linear represent no embedding; search by text or vector"
            )
        decoded: Floats = self.mean + values @ self._query_matrix.T
        return decoded

    def code_query(self, values: Floats) -> Floats:
        """values (rows, dims) float32 of codes that are queries -> the query side of sdc (rows, dims) float32.

        What the code represents, projected as a query is: codes may be compared by it whether or not their dimensions
        are orthogonal. Where the projection is not linear, the values themselves: the published symmetric score.
        """
        if self._query_matrix is None:
            return values
        embeddings = self.decode(values)
        lengths = np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        query: Floats = self.project(embeddings / lengths) * lengths  # a projection takes unit vectors
        return query

    @property
    def is_linear(self) -> bool:
        """Whether the projection of queries is linear, so that codes represent embeddings."""
        return self._query_matrix is not None

    @property
    def metric(self) -> Floats | None:
        """(dims, dims) float32: <a, b> of what the values of two codes represent is a @ metric @ b, but for the mean;
        None where codes represent nothing."""
        matrix = self._query_matrix
        return None if matrix is None else matrix.T @ matrix

    @cached_property
    def _query_matrix(self) -> Floats | None:
        """Q (embedding_dims, dims) float32: what the projection makes of every axis; None where it is not linear."""
        matrix, error = self._fitted_matrix
        return matrix if error <= LINEAR_WITHIN else None

    @cached_property
    def _columns(self) -> "Columns | None":
        """The same where nothing but rounding tells it from the graph."""
        matrix, error = self._fitted_matrix
        return distinct_columns(matrix) if error <= ROUNDING else None

    @cached_property
    def _fitted_matrix(self) -> tuple[Floats, float]:
        """What the projection makes of every axis, and how much it errs, as a share of the largest value."""
        if self._product is not None:
            return self._product.matrix, self._product.error
        matrix = np.ascontiguousarray(self._run_projection(np.eye(self.embedding_dims, dtype=np.float32)))
        sample = np.random.default_rng(0).standard_normal((16, self.embedding_dims)).astype(np.float32)
        sample /= np.linalg.norm(sample, axis=1, keepdims=True)
        projected = self._run_projection(sample)
        peak = max(float(np.abs(projected).max()), float(np.finfo(np.float32).tiny))
        error = float(np.abs(projected - sample @ matrix).max()) / peak
        if self._told is not None:
            self._told.tell(Product(matrix, error, self.mean))
        return matrix, error
