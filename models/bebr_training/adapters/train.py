"""The trainer of adapters between two models, in both directions. Read it from top to bottom.

    1. hold out   some texts are queries; what they find in the other model's codes decides
    2. candidates orthonormal, ridge, and two trained from the better of these; the best is the linear adapter
    3. weigh      the linear adapter against the other model itself, by relevance judgments or by fixed weights
    4. scale      bring the scores of both models to one scale, by the tails of scores on reference texts
    5. choose     the kind of adapter that is used by default
    6. measure    the matrix of the upgrade, on held-out texts and on relevance judgments

No code of either model changes. Neither binarizer needs to be fitted again: a fit does not depend on the basis, so one
that is fitted in the basis of the other model loses nothing.

The float neighbors of a model favor that model. They may choose between maps, but not weigh a map against the other
model. Without relevance judgments the weights are DEFAULT_WEIGHTS and the weighted sum is the default.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.core.metrics import Grades
from bebr.encoding import AdapterEntry, AdapterFiles, AdapterKind, Bundle, CompatibilityFiles
from bebr.encoding.adapters.adapter import Adapter, Reference
from bebr.encoding.adapters.evaluation import Pool, Queries, measure, nearest
from bebr.encoding.adapters.quality import UpgradeMatrix
from bebr_training.adapters.graph import adapter_to_onnx
from bebr_training.adapters.maps import HIDDEN, RIDGES, EmbeddingMap, Method, distil, procrustes, ridge
from bebr_training.binarizer.presets import Preset
from bebr_training.data.held_out import SEARCHED, split
from bebr_training.data.pairs import Pairs
from bebr_training.search.metrics import recall_per_query
from bebr_training.search.neighbors import Neighbors
from bebr_training.search.ranking import dot_search

StandsFor = Callable[[Floats], Floats]
"""Unit rows (rows, dims) -> the embeddings (rows, dims) that their codes represent."""
Progress = Callable[[int, int, str], None]
"""Called as progress(done, total, what is being done)."""

REFERENCE_TEXTS = 512
"""Texts whose codes both models are scaled by."""
MAX_ROWS = 50_000
"""Of more rows a sample is used; more cost time and teach little."""
WEIGHTS = (0.3, 0.5, 0.7)
"""Weights of the linear adapter in the sum, of which relevance judgments choose."""
DEFAULT_WEIGHTS = {"forward": 0.5, "backward": 0.3}
"""Weights without relevance judgments: the older model counts less. See docs/benchmarks.md#upgrades."""
K = 10


@dataclass(frozen=True)
class ModelData:
    """The data of one of the two models."""

    rows: Floats
    """(rows, dims): its embeddings of the texts, unit rows."""
    stands_for: StandsFor
    embeds: bool
    """Whether it can embed the text of a query."""
    pairs: Pairs | None = None
    """Queries and documents with relevance judgments, embedded by this model."""

    @property
    def dims(self) -> int:
        return int(self.rows.shape[1])


@dataclass(frozen=True)
class TrainedAdapter:
    """One direction."""

    files: AdapterFiles
    basis: Floats
    """The map of kind compatible, which the graph must equal."""
    linear: EmbeddingMap
    """The map of kind linear, which the graph must equal."""
    method: Method
    """How that map was made."""
    held_out: Mapping[Method, float]
    """Recall@10 of each candidate on held-out texts."""
    matrix: UpgradeMatrix
    """Measured on held-out texts."""
    judged: UpgradeMatrix | None
    """Measured on relevance judgments."""

    def to_json(self) -> dict[str, Any]:
        """The metrics that a bundle keeps."""
        return {
            "method": str(self.method),
            "held_out_recall_at_10": {str(method): round(recall, 4) for method, recall in self.held_out.items()},
            "default": str(self.files.default),
            "weight": self.files.weight,
            "matrix": asdict(self.matrix.summary()),
            "judged": self.judged and asdict(self.judged.summary()),
        }


@dataclass(frozen=True)
class TrainedAdapters:
    """Both directions between two models."""

    forward: TrainedAdapter
    """From the new model to the old one."""
    backward: TrainedAdapter
    """From the old model to the new one."""
    reference: Reference
    rows: int
    """Number of texts, held-out ones included."""
    preset: Preset

    def files(self, old: Bundle, metrics: Mapping[str, Any] | None = None) -> CompatibilityFiles:
        """The files for the new bundle, with further metrics beside its own."""
        found = {"rows": self.rows, "seed": self.preset.seed, "steps": self.preset.steps, **(metrics or {})}
        found |= {"forward": self.forward.to_json(), "backward": self.backward.to_json()}
        return CompatibilityFiles(
            old.id,
            old.fingerprint,
            old.embedding_dims,
            self.forward.files,
            self.backward.files,
            self.reference.to_bytes(),
            found,
        )


def train_adapters(new: ModelData, old: ModelData, preset: Preset, progress: Progress | None = None) -> TrainedAdapters:
    """Train on aligned rows: row i of both models is the same text.

    Of the preset only steps, batch, temperature and seed apply. Raises InvalidEmbeddings when, apart from the held-out
    ones, there are fewer rows than either model has dims.
    """
    rng = np.random.default_rng(preset.seed)
    count = len(new.rows)
    chosen = np.sort(rng.choice(count, MAX_ROWS, replace=False)) if count > MAX_ROWS else np.arange(count)
    queries, training = split(len(chosen), max(new.dims, old.dims), preset.seed)
    new_side, old_side = (_Side.of(version, chosen[training], chosen[queries]) for version in (new, old))
    texts = np.sort(rng.permutation(len(training))[:REFERENCE_TEXTS])
    reference = Reference(new_side.codes[texts], old_side.codes[texts])
    show = _Steps(4 * preset.steps, progress)
    forward = _Direction(new_side, old_side, reference, "forward").train(preset, show)
    backward = _Direction(old_side, new_side, reference.turned(), "backward").train(preset, show)
    return TrainedAdapters(forward, backward, reference, len(chosen), preset)


def open_adapter(files: AdapterFiles, reference: Reference) -> Adapter:
    """Open the adapter of files that are not in a bundle yet. reference: turned, for the backward direction."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.onnx"
        path.write_bytes(files.graph)
        return Adapter(path, AdapterEntry(path.name, files.scales, files.default, files.weight), reference)


@dataclass(frozen=True)
class _Side:
    """The data of one model, split for training."""

    rows: Floats
    """(rows, dims): training texts, unit rows."""
    codes: Floats
    """(rows, dims): what their codes represent."""
    queries: Floats
    """(queries, dims): held-out texts, unit rows."""
    embeds: bool
    """Whether the model can embed the text of a query."""
    judged_queries: Floats | None = None
    """(judged, dims): queries with relevance judgments, unit rows."""
    documents: Floats | None = None
    """(documents, dims): what the codes of their documents represent."""
    judgments: Sequence[Grades] = ()
    """The grades of each of these queries."""

    @classmethod
    def of(cls, version: ModelData, training: NDArray[np.int64], queries: NDArray[np.int64]) -> "_Side":
        rows = version.rows[training]
        side = cls(rows, version.stands_for(rows), version.rows[queries], version.embeds)
        if (pairs := version.pairs) is None:
            return side
        judged = sorted(pairs.judgments)
        return replace(
            side,
            judged_queries=pairs.queries[judged],
            documents=version.stands_for(pairs.documents),
            judgments=[pairs.judgments[query] for query in judged],
        )


@dataclass(frozen=True)
class _Direction:
    """One direction: queries of `here` search the codes of `there`."""

    here: _Side
    there: _Side
    reference: Reference
    name: str

    def train(self, preset: Preset, show: "_Steps") -> TrainedAdapter:
        candidates = self._candidates(preset, show)
        recalls = {method: self._recall(mapped(self.here.queries)) for method, mapped in candidates.items()}
        method = max(recalls, key=lambda method: recalls[method])  # the first of equals, which is the simplest
        basis, linear = candidates[Method.PROCRUSTES].matrix, candidates[method]
        graph = adapter_to_onnx(basis, linear)
        files = AdapterFiles(graph, dict.fromkeys(AdapterKind, 1.0), AdapterKind.WEIGHTED, DEFAULT_WEIGHTS[self.name])
        files = replace(files, weight=self._weight(files))
        calibrated = open_adapter(files, self.reference).calibrated(
            self.reference, self.here.queries, self.there.queries
        )
        files = replace(files, scales=dict(calibrated.scales))
        files = replace(files, default=self._default(files, method))
        judged = self._judged(files, None, files.default)
        return TrainedAdapter(files, basis, linear, method, recalls, self._held_out(files), judged)

    def _candidates(self, preset: Preset, show: "_Steps") -> dict[Method, EmbeddingMap]:
        here, there = self.here, self.there
        ridges = [EmbeddingMap(ridge(here.rows, there.rows, strength)) for strength in RIDGES]
        closed = {
            Method.PROCRUSTES: EmbeddingMap(procrustes(here.rows, there.rows)),
            Method.RIDGE: max(ridges, key=lambda candidate: self._recall(candidate(here.queries))),
        }
        start = max(closed.values(), key=lambda candidate: self._recall(candidate(here.queries))).matrix
        near = Neighbors(here.rows, np.random.default_rng(preset.seed))
        learned = {
            method: distil(start, here.rows, there.codes, near, preset, hidden, show.label(f"{self.name}, {method}"))
            for method, hidden in ((Method.LINEAR, 0), (Method.RESIDUAL, HIDDEN))
        }
        return {**closed, **learned}

    def _recall(self, crossed: Floats) -> float:
        """Share of this model's float neighbors of the held-out queries that are found in the other model's codes."""
        truth = dot_search(self.here.rows[:SEARCHED])(self.here.queries, K)
        found = dot_search(self.there.codes[:SEARCHED])(crossed, K)
        return float(recall_per_query(found, truth, K).mean())

    def _weight(self, files: AdapterFiles) -> float:
        if self.here.judged_queries is None:
            return files.weight

        def ndcg(weight: float) -> float:
            matrix = self._judged(replace(files, weight=weight), [AdapterKind.WEIGHTED], None)
            return float(matrix.new_to_old[AdapterKind.WEIGHTED].ndcg.mean()) if matrix else 0.0

        return max(WEIGHTS, key=ndcg)

    def _default(self, files: AdapterFiles, method: Method) -> AdapterKind:
        able = [kind for kind in AdapterKind if self.there.embeds or not kind.needs_text]
        if (judged := self._judged(files, able, None)) is not None:
            return judged.kind
        if self.there.embeds:
            return AdapterKind.WEIGHTED
        return AdapterKind.COMPATIBLE if method is Method.PROCRUSTES else AdapterKind.LINEAR

    def _held_out(self, files: AdapterFiles) -> UpgradeMatrix:
        queries, points = self.here.queries, self.here.rows[:SEARCHED]
        none = np.full(len(queries), -1)
        held_out = Queries(self.there.queries, queries, none)
        pool = Pool(self.there.codes[:SEARCHED], self.here.codes[:SEARCHED])
        truth = nearest(queries, points, none)
        return measure(open_adapter(files, self.reference), pool, held_out, truth, judged=False, kind=files.default)

    def _judged(
        self, files: AdapterFiles, kinds: Sequence[AdapterKind] | None, kind: AdapterKind | None
    ) -> UpgradeMatrix | None:
        here, there = self.here, self.there
        if here.judged_queries is None or there.judged_queries is None or there.documents is None:
            return None
        queries = Queries(there.judged_queries, here.judged_queries, np.full(len(here.judged_queries), -1))
        pool = Pool(there.documents, here.documents)
        return measure(
            open_adapter(files, self.reference), pool, queries, here.judgments, judged=True, kinds=kinds, kind=kind
        )


class _Steps:
    """Counts the training steps of all maps."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def label(self, name: str) -> Callable[[str], None]:
        def show(what: str) -> None:
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._total, f"{name}: {what}")

        return show
