"""Documents as codes of a binarizer, searched as the service searches them.

The service scans packed codes with its kernel, which equals `bebr.core.scoring` to the last bit. Here the grid values
stay unpacked as float32, and the integer sums of a block are one matrix product. It is exact in any order of summation,
because the sums stay below 2^24 (see MAX_DIMS of `bebr.core.codes`). Scales and gains are applied in the order of
`bebr.core.scoring`, so scores, rankings and ties equal those of the service.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.core.codes import CodeSpec, code_values, grid_values, split_records, unpack_levels
from bebr.core.scoring import DotQueries, Scorer, prepare_adc
from bebr.encoding import BinarizerFiles, Bundle
from bebr.encoding.quantization.binarizer import Binarizer
from bebr.errors import DimensionMismatch
from bebr_training.search.ranking import Search, search_by


@dataclass(frozen=True)
class Candidate:
    """A binarizer to measure, opened from its ONNX graph."""

    label: str
    """Its name in tables."""
    binarizer: Binarizer
    steps: NDArray[np.float32]
    """(blocks,): the step of each block's grid."""

    @property
    def spec(self) -> CodeSpec:
        return self.binarizer.spec

    @classmethod
    def of_bundle(cls, bundle: Bundle, dims: int, threads: int = 1) -> "Candidate":
        """The binarizer of a bundle. Raises InvalidOption without one, DimensionMismatch unless it has these dims."""
        graph = bundle.path / bundle.binarizer.graph
        if bundle.embedding_dims != dims:
            raise DimensionMismatch(
                f"bundle '{bundle.id}' takes embeddings of {bundle.embedding_dims} dims, the collection has {dims}"
            )
        return cls(bundle.id, Binarizer(graph, bundle.spec.scan, dims, threads), bundle.steps)

    @classmethod
    def of_files(cls, label: str, files: BinarizerFiles, dims: int, threads: int = 1) -> "Candidate":
        """A binarizer that is not in a bundle yet, for embeddings of `dims` dims."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "binarizer.onnx"
            path.write_bytes(files.graph)
            return cls(label, Binarizer(path, files.spec.scan, dims, threads), files.steps)

    def stands_for(self, rows: Floats) -> Floats:
        """Unit rows (rows, dims) -> the embeddings (rows, dims) that their codes represent. Raises Incompatible."""
        return self.binarizer.decode(code_values(self.binarizer.encode(rows), self.spec, self.steps))


class CodedDocuments:
    """The documents of a collection as codes of a candidate."""

    def __init__(self, candidate: Candidate, documents: Floats) -> None:
        """documents (rows, dims) float32, unit rows."""
        self._candidate, self.rows = candidate, len(documents)
        codes, gains = split_records(candidate.binarizer.encode(documents), candidate.spec)
        grid = grid_values(unpack_levels(codes, candidate.spec), candidate.spec)
        self._grid = [np.ascontiguousarray(grid[:, dims].T, np.float32) for dims in candidate.spec.dim_slices]
        self._gains = gains.astype(np.float32)

    def search(self, scorer: Scorer) -> Search:
        """The search by float queries (queries, dims), each prepared as the service prepares it for that scorer."""
        binarizer, spec, steps = self._candidate.binarizer, self._candidate.spec, self._candidate.steps
        match scorer:
            case Scorer.ADC:
                return search_by(lambda q: self._dot(prepare_adc(binarizer.project(q), spec, steps)), self.rows)
            case Scorer.SDC:
                return search_by(lambda q: self._dot(prepare_adc(self._code_queries(q), spec, steps)), self.rows)
            case Scorer.HAMMING:
                signs = np.sign(np.vstack(self._grid))
                return search_by(lambda q: self._query_signs(q) @ signs, self.rows)

    def _dot(self, queries: DotQueries) -> Floats:
        """Scores (queries, rows) float32, equal to `core.scoring.dot_scores`."""
        total = np.zeros((len(queries), self.rows), np.float32)
        for b, (dims, grid) in enumerate(zip(self._candidate.spec.dim_slices, self._grid, strict=True)):
            sums = queries.values[:, dims].astype(np.float32) @ grid
            sums *= queries.scales[:, b, None]
            total += sums
        total *= self._gains[None, :]
        return total

    def _code_queries(self, queries: Floats) -> Floats:
        """Float queries -> the query side of their codes, as `Encoder.code_query`."""
        binarizer = self._candidate.binarizer
        return binarizer.code_query(code_values(binarizer.encode(queries), binarizer.spec, self._candidate.steps))

    def _query_signs(self, queries: Floats) -> Floats:
        """(queries, dims) float32 of +-1; the inner product of two such rows is dims - 2 * distance."""
        codes, _ = split_records(self._candidate.binarizer.encode(queries), self._candidate.spec)
        signs: Floats = np.sign(grid_values(unpack_levels(codes, self._candidate.spec), self._candidate.spec)).astype(
            np.float32
        )
        return signs
