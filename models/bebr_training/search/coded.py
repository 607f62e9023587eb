"""Documents as codes of a binarizer, searched as the service searches them.

The service scans packed codes with its kernel, which equals `bebr.core.scoring` to the last bit. Here the grid values
stay unpacked as float32, and the integer sums of a block are one matrix product. It is exact in any order of summation,
because the sums stay below 2^24 (see MAX_DIMS of `bebr.core.codes`). Scales and gains are applied in the order of
`bebr.core.scoring`, so scores, rankings and ties equal those of the service.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.core.codes import (
    CodeSpec,
    RescoreSpec,
    code_values,
    grid_values,
    rescore_records,
    rescore_values,
    split_records,
    unpack_levels,
)
from bebr.core.scoring import DotQueries, RescoreQueries, Scorer, prepare_adc, prepare_rescore, rescore_scores
from bebr.core.topk import top_rows
from bebr.encoding import BinarizerFiles, Bundle
from bebr.encoding.bundles.bundle import DEFAULT_CANDIDATES
from bebr.encoding.quantization.binarizer import Binarizer
from bebr.encoding.quantization.pair import encode_rescored, open_binarizer, open_rescore
from bebr.errors import DimensionMismatch
from bebr_training.search.ranking import Rows, Search, search_by

HITS_MEASURED = 10
"""`rescore_candidates` are for this many hits."""
ALL = slice(None)


@dataclass(frozen=True)
class Candidate:
    """A binarizer to measure, opened from its ONNX graph."""

    label: str
    """Its name in tables."""
    binarizer: Binarizer
    steps: NDArray[np.float32]
    """(blocks,): the step of each block's grid."""
    rescore: Binarizer | None = None
    """Makes the rescore code."""
    rescore_candidates: int = 0
    """How many candidates of a scan 10 hits are chosen from by that."""

    @property
    def spec(self) -> CodeSpec:
        """That of the scan code, and of the rescore code where there is one."""
        scan = self.binarizer.spec
        return scan if self.rescore is None else replace(scan, rescore=RescoreSpec(self.rescore.spec.blocks))

    def encode(self, rows: Floats) -> NDArray[np.uint8]:
        """Unit rows (rows, dims) -> records (rows, record_size_bytes)."""
        if self.rescore is None:
            return self.binarizer.encode(rows)
        return encode_rescored(self.binarizer, self.steps, self.rescore, rows)

    @classmethod
    def of_bundle(cls, bundle: Bundle, dims: int, threads: int = 1) -> "Candidate":
        """The binarizer of a bundle. Raises InvalidOption without one, DimensionMismatch unless it has these dims."""
        if bundle.embedding_dims != dims:
            raise DimensionMismatch(
                f"bundle '{bundle.id}' takes embeddings of {bundle.embedding_dims} dims, the collection has {dims}"
            )
        binarizer, rescore = open_binarizer(bundle, threads), open_rescore(bundle, threads)
        return cls(bundle.id, binarizer, bundle.steps, rescore, bundle.rescore_candidates)

    @classmethod
    def of_files(
        cls, label: str, files: BinarizerFiles, dims: int, threads: int = 1, candidates: int = 0
    ) -> "Candidate":
        """A binarizer that is not in a bundle yet, for embeddings of `dims` dims. candidates: for its rescore code."""
        with tempfile.TemporaryDirectory() as folder:
            path, finer = Path(folder) / "binarizer.onnx", Path(folder) / "rescore.onnx"
            path.write_bytes(files.graph)
            rescore = None
            if files.rescore is not None and files.spec.rescore is not None:
                finer.write_bytes(files.rescore)
                rescore = Binarizer(finer, files.spec.rescore, dims, threads)
            scan = Binarizer(path, files.spec.scan, dims, threads)
            return cls(label, scan, files.steps, rescore, candidates or DEFAULT_CANDIDATES)

    def stands_for(self, rows: Floats) -> Floats:
        """Unit rows (rows, dims) -> the embeddings (rows, dims) that their codes represent. Raises Incompatible."""
        records = self.encode(rows)
        decoded = self.binarizer.decode(code_values(records, self.spec, self.steps))
        if self.rescore is not None:
            decoded += self.rescore.decode(rescore_values(rescore_records(records, self.spec), self.spec))
        return decoded


class CodedDocuments:
    """The documents of a collection as codes of a candidate."""

    def __init__(self, candidate: Candidate, documents: Floats) -> None:
        """documents (rows, dims) float32, unit rows."""
        self._candidate, self.rows = candidate, len(documents)
        records = candidate.encode(documents)
        codes, gains = split_records(records, candidate.spec)
        self._rescore_records = rescore_records(records, candidate.spec)
        grid = grid_values(unpack_levels(codes, candidate.spec), candidate.spec)
        self._grid = [np.ascontiguousarray(grid[:, dims].T, np.float32) for dims in candidate.spec.dim_slices]
        self._gains = gains.astype(np.float32)

    def search(self, scorer: Scorer) -> Search:
        """The search by float queries (queries, dims), each prepared as the service prepares it for that scorer."""
        binarizer, steps = self._candidate.binarizer, self._candidate.steps
        spec = binarizer.spec
        match scorer:
            case Scorer.ADC:
                return search_by(lambda q: self._dot(prepare_adc(binarizer.project(q), spec, steps)), self.rows)
            case Scorer.SDC:
                return search_by(lambda q: self._dot(prepare_adc(self._code_queries(q), spec, steps)), self.rows)
            case Scorer.HAMMING:
                signs = np.sign(np.vstack(self._grid))
                return search_by(lambda q: self._query_signs(q) @ signs, self.rows)

    def rescored(self, k: int) -> Search:
        """The search by adc whose best candidates, as many as the service takes for k hits, are scored again."""
        candidate, spec = self._candidate, self._candidate.spec
        assert candidate.rescore is not None, "it has a rescore code"
        count = min(self.rows, max(k, -(-candidate.rescore_candidates * k // HITS_MEASURED)))
        rescore = candidate.rescore

        def search(queries: Floats, wanted: int) -> Rows:
            first = self.search(Scorer.ADC)(queries, count)
            prepared = prepare_adc(candidate.binarizer.project(queries), spec.scan, candidate.steps)
            finer = prepare_rescore(rescore.project(queries), spec)
            found = np.empty((len(queries), wanted), np.int64)
            for query, rows in enumerate(np.sort(first, axis=1)):  # equal scores are ordered by row
                one = slice(query, query + 1)
                scores = self._dot(DotQueries(prepared.values[one], prepared.scales[one]), rows)
                asked = RescoreQueries(finer.values[one], finer.scales[one])
                found[query] = rows[
                    top_rows(scores + rescore_scores(asked, self._rescore_records[rows], spec), wanted)[0]
                ]
            return found

        return search

    def _dot(self, queries: DotQueries, rows: NDArray[np.int64] | slice = ALL) -> Floats:
        """Scores (queries, rows) float32, equal to `core.scoring.dot_scores`."""
        gains = self._gains[rows]
        total = np.zeros((len(queries), len(gains)), np.float32)
        for b, (dims, grid) in enumerate(zip(self._candidate.spec.dim_slices, self._grid, strict=True)):
            sums = queries.values[:, dims].astype(np.float32) @ grid[:, rows]
            sums *= queries.scales[:, b, None]
            total += sums
        total *= gains[None, :]
        return total

    def _code_queries(self, queries: Floats) -> Floats:
        """Float queries -> the query side of their codes, as `Encoder.code_query`."""
        binarizer = self._candidate.binarizer
        return binarizer.code_query(code_values(binarizer.encode(queries), binarizer.spec, self._candidate.steps))

    def _query_signs(self, queries: Floats) -> Floats:
        """(queries, dims) float32 of +-1; the inner product of two such rows is dims - 2 * distance."""
        codes, _ = split_records(self._candidate.binarizer.encode(queries), self._candidate.spec.scan)
        signs: Floats = np.sign(grid_values(unpack_levels(codes, self._candidate.spec), self._candidate.spec)).astype(
            np.float32
        )
        return signs
