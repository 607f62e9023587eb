"""Makes two models compatible: queries of each reach the codes of the other. It reads from top to bottom.

    1. hold out   texts that are queries later; what they find in the other model's codes decides
    2. candidates orthonormal, ridge, and two learned from the better of them; the best is the adapter
    3. weigh      the adapter against the other model itself: by judged pairs, else evenly
    4. scale      how much a score on the other side means, by the tails on reference texts
    5. choose     the kind of adapter that is used by default
    6. measure    the matrix of the upgrade, held out and judged

Both directions are made alike; no code of either model changes. A binarizer that is fitted in the basis of the other
model loses nothing, because a fit does not care for rotations; so neither needs to be fitted anew.

What float neighbours say favours the model that they are of, without limit: they may choose between adapters, but not
weigh an adapter against the other model. Without judged pairs the weights are UNJUDGED and the sum is the default,
which was below the other model alone in no measurement but one, by .001 of nDCG@10.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.encoding import AdapterEntry, AdapterFiles, AdapterKind, Bundle, CompatibilityFiles
from bebr.encoding.adapters.adapter import Adapter as ModelAdapter
from bebr.encoding.adapters.adapter import Reference
from bebr.encoding.adapters.evaluation import Judgments, Pool, Queries, measure, nearest
from bebr.encoding.adapters.quality import UpgradeMatrix
from bebr_training.adapters.graph import bridge_to_onnx
from bebr_training.adapters.maps import HIDDEN, RIDGES, Adapter, Method, distil, procrustes, ridge
from bebr_training.binarizer.presets import Preset
from bebr_training.data.held_out import SEARCHED, split
from bebr_training.data.pairs import Pairs
from bebr_training.search.metrics import recall_per_query
from bebr_training.search.neighbors import Neighbours
from bebr_training.search.ranking import dot_search

Floats = NDArray[np.float32]
StandsFor = Callable[[Floats], Floats]
"""unit rows (rows, dims) -> what their codes stand for (rows, dims)."""
Progress = Callable[[int, int, str], None]
"""Called as progress(done, total, what happened)."""

REFERENCE_TEXTS = 512
MOST_ROWS = 50_000
"""Of more a sample: what they teach beyond is less than what they cost."""
WEIGHTS = (0.3, 0.5, 0.7)
"""Shares of the adapter in the weighted sum, of which judged pairs choose."""
UNJUDGED = {"forward": 0.5, "backward": 0.3}
"""Shares where nothing is judged: less of the older model. Measured on scifact, climate-fever and cranfield, nDCG@10 of
the other model alone and of the sum: forward .456 .513, .292 .338, .293 .355, backward .623 .622, .349 .368, .396 .397.
"""
K = 10


@dataclass(frozen=True)
class Version:
    """One of the two models. rows (rows, dims): its embeddings of the texts, unit. embeds: it can embed a query's text.

    pairs: judged queries and documents as this model embeds them.
    """

    rows: Floats
    stands_for: StandsFor
    embeds: bool
    pairs: Pairs | None = None

    @property
    def dims(self) -> int:
        return int(self.rows.shape[1])


@dataclass(frozen=True)
class Trained:
    """One direction. adapter: what the graph must equal. held_out: recall@10 of each candidate."""

    files: AdapterFiles
    basis: Floats
    adapter: Adapter
    method: Method
    held_out: Mapping[Method, float]
    matrix: UpgradeMatrix
    judged: UpgradeMatrix | None

    def to_json(self) -> dict[str, Any]:
        return {
            "method": str(self.method),
            "held_out_recall_at_10": {str(method): round(recall, 4) for method, recall in self.held_out.items()},
            "default": str(self.files.default),
            "weight": self.files.weight,
            "matrix": asdict(self.matrix.summary()),
            "judged": self.judged and asdict(self.judged.summary()),
        }


@dataclass(frozen=True)
class TrainedCompatibility:
    """Both directions between two models; forward: from the new one to the old one."""

    forward: Trained
    backward: Trained
    reference: Reference
    rows: int
    preset: Preset

    def files(self, old: Bundle, figures: Mapping[str, Any] | None = None) -> CompatibilityFiles:
        """As a bundle holds it; further figures stand beside its own."""
        found = {"rows": self.rows, "seed": self.preset.seed, "steps": self.preset.steps, **(figures or {})}
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


def train_compatible(
    new: Version, old: Version, preset: Preset, progress: Progress | None = None
) -> TrainedCompatibility:
    """Train on aligned rows: row i of both is the same text. Of `preset` count steps, batch, temperature and seed.

    Raises InvalidEmbeddings when there are fewer rows than either model has dims, with some held out.
    """
    rng = np.random.default_rng(preset.seed)
    count = len(new.rows)
    chosen = np.sort(rng.choice(count, MOST_ROWS, replace=False)) if count > MOST_ROWS else np.arange(count)
    queries, training = split(len(chosen), max(new.dims, old.dims), preset.seed)
    new_side, old_side = (_Side.of(version, chosen[training], chosen[queries]) for version in (new, old))
    texts = np.sort(rng.permutation(len(training))[:REFERENCE_TEXTS])
    reference = Reference(new_side.codes[texts], old_side.codes[texts])
    show = _Steps(4 * preset.steps, progress)
    forward = _Direction(new_side, old_side, reference, "forward").train(preset, show)
    backward = _Direction(old_side, new_side, reference.turned(), "backward").train(preset, show)
    return TrainedCompatibility(forward, backward, reference, len(chosen), preset)


def open_adapter(files: AdapterFiles, reference: Reference) -> ModelAdapter:
    """The adapter of files that are in no bundle yet; reference: turned, where it leads backward."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.onnx"
        path.write_bytes(files.graph)
        return ModelAdapter(path, AdapterEntry(path.name, files.scales, files.default, files.weight), reference)


@dataclass(frozen=True)
class _Side:
    """What is known of one model. rows, codes: of the training texts; queries: of the held-out ones; unit rows.

    asked, documents: of judged pairs, the queries and what the codes of the documents stand for.
    """

    rows: Floats
    codes: Floats
    queries: Floats
    embeds: bool
    asked: Floats | None = None
    documents: Floats | None = None
    judgements: Judgments = ()

    @classmethod
    def of(cls, version: Version, training: NDArray[np.int64], queries: NDArray[np.int64]) -> "_Side":
        rows = version.rows[training]
        side = cls(rows, version.stands_for(rows), version.rows[queries], version.embeds)
        if (pairs := version.pairs) is None:
            return side
        judged = sorted(pairs.judgements)
        return replace(
            side,
            asked=pairs.queries[judged],
            documents=version.stands_for(pairs.documents),
            judgements=[pairs.judgements[query] for query in judged],
        )


@dataclass(frozen=True)
class _Direction:
    """From one model to another: queries of `here` search the codes of `there`."""

    here: _Side
    there: _Side
    reference: Reference
    name: str

    def train(self, preset: Preset, show: "_Steps") -> Trained:
        candidates = self._candidates(preset, show)
        recalls = {method: self._recall(adapter(self.here.queries)) for method, adapter in candidates.items()}
        method = max(recalls, key=lambda method: recalls[method])  # the first of equals: the simplest
        basis, adapter = candidates[Method.PROCRUSTES].matrix, candidates[method]
        graph = bridge_to_onnx(basis, adapter)
        files = AdapterFiles(graph, dict.fromkeys(AdapterKind, 1.0), AdapterKind.WEIGHTED, UNJUDGED[self.name])
        files = replace(files, weight=self._weight(files))
        calibrated = open_adapter(files, self.reference).calibrated(
            self.reference, self.here.queries, self.there.queries
        )
        files = replace(files, scales=dict(calibrated.scales))
        files = replace(files, default=self._default(files, method))
        judged = self._judged(files, None, files.default)
        return Trained(files, basis, adapter, method, recalls, self._held_out(files), judged)

    def _candidates(self, preset: Preset, show: "_Steps") -> dict[Method, Adapter]:
        here, there = self.here, self.there
        ridges = [Adapter(ridge(here.rows, there.rows, strength)) for strength in RIDGES]
        closed = {
            Method.PROCRUSTES: Adapter(procrustes(here.rows, there.rows)),
            Method.RIDGE: max(ridges, key=lambda adapter: self._recall(adapter(here.queries))),
        }
        start = max(closed.values(), key=lambda adapter: self._recall(adapter(here.queries))).matrix
        near = Neighbours(here.rows, np.random.default_rng(preset.seed))
        learned = {
            method: distil(start, here.rows, there.codes, near, preset, hidden, show.label(f"{self.name}, {method}"))
            for method, hidden in ((Method.LINEAR, 0), (Method.RESIDUAL, HIDDEN))
        }
        return {**closed, **learned}

    def _recall(self, crossed: Floats) -> float:
        """Share of this model's float neighbours of the held-out queries that the other model's codes give."""
        truth = dot_search(self.here.rows[:SEARCHED])(self.here.queries, K)
        found = dot_search(self.there.codes[:SEARCHED])(crossed, K)
        return float(recall_per_query(found, truth, K).mean())

    def _weight(self, files: AdapterFiles) -> float:
        if self.here.asked is None:
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
        asked = Queries(self.there.queries, queries, none)
        pool = Pool(self.there.codes[:SEARCHED], self.here.codes[:SEARCHED])
        truth = nearest(queries, points, none)
        return measure(open_adapter(files, self.reference), pool, asked, truth, judged=False, kind=files.default)

    def _judged(
        self, files: AdapterFiles, kinds: Sequence[AdapterKind] | None, kind: AdapterKind | None
    ) -> UpgradeMatrix | None:
        here, there = self.here, self.there
        if here.asked is None or there.asked is None or there.documents is None:
            return None
        asked = Queries(there.asked, here.asked, np.full(len(here.asked), -1))
        pool = Pool(there.documents, here.documents)
        return measure(
            open_adapter(files, self.reference), pool, asked, here.judgements, judged=True, kinds=kinds, kind=kind
        )


class _Steps:
    """Counts the steps of all trainings."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def label(self, name: str) -> Callable[[str], None]:
        def show(what: str) -> None:
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._total, f"{name}: {what}")

        return show
