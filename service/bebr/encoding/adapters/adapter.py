"""How queries of one embedding model search the codes of another, without re-encoding anything.

Every kind of adapter makes an embedding of the other model from what is known of the query. From there on it is a query
like any other of that model. `Adapter` is one direction between two models:

    compatible   f Q, Q with orthonormal columns (or rows): the basis of BT^2 (Zhou et al., 2023). Binarizers that are
                 fitted in that basis lose nothing, since a fit does not depend on rotations
    linear       f W + g(f), trained to rank the other model's codes as this model's floats rank their texts
    dual         the text embedded by the other model itself
    weighted     weight * linear + (1 - weight) * dual

**One scale.** Scores of two models do not mean the same: the tail of the best scores lies elsewhere, and that differs
from query to query. So each bundle keeps a reference: what the codes of the same few hundred texts represent in both
models. For a query, the tail of its scores on them is taken on both sides (the mean of the highest TAIL_SHARE), and

    score on this side = scale * (score on the other side - its tail there) + its tail here

with `scale` the ratio of the spreads of both tails, a constant of the kind. Measured against other methods:
docs/benchmarks.md#one-scale.

The texts of the reference must resemble those that are searched: how far a narrow collection lies above the tail of
texts of all kinds differs from model to model. `Adapter.calibrated` takes a sample of the collection's own points
instead (docs/benchmarks.md#scaled-by-the-collections-own-points).
"""

import io
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats, unit
from bebr.encoding.bundles.bundle import Bundle
from bebr.encoding.bundles.manifest import AdapterEntry, AdapterKind, CompatibilityEntry
from bebr.encoding.onnx.session import EMBEDDING, FLOAT32, check_signature, cut_out, open_session, read_graph
from bebr.errors import DamagedBundle

INPUT = EMBEDDING
OUTPUTS = {AdapterKind.COMPATIBLE: "compatible", AdapterKind.LINEAR: "adapter"}
"""The learned kinds and the outputs of the graph that compute them; the other kinds follow from these two."""
TAIL_SHARE = 0.03
"""Share of the texts that make up a tail (docs/benchmarks.md#one-scale)."""
LEAST_SPREAD = 1e-3
"""The spread of a flat tail, so that a scale is a number."""


@dataclass(frozen=True)
class Reference:
    """What the codes of the same texts represent in two models."""

    here: Floats
    """(texts, dims) float32: in this model."""
    there: Floats
    """(texts, their dims) float32: in the other model."""

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, here=self.here.astype(np.float16), there=self.there.astype(np.float16))
        return buffer.getvalue()

    @classmethod
    def load(cls, path: Path) -> "Reference":
        """Raises DamagedBundle."""
        try:
            # numpy leaves a file that it opened itself open when the archive is bad
            with path.open("rb") as stream, np.load(stream) as arrays:
                here, there = (np.ascontiguousarray(arrays[key], np.float32) for key in ("here", "there"))
        except Exception as error:  # zipfile, zlib and numpy raise what they like on a damaged archive
            raise DamagedBundle(f"{path.name} cannot be read: {error}", path=str(path), file=path.name) from error
        if here.ndim != 2 or there.ndim != 2 or len(here) != len(there) or not len(here):
            raise DamagedBundle(f"{path.name} holds arrays of {here.shape} and {there.shape}", file=path.name)
        if not (np.isfinite(here).all() and np.isfinite(there).all()):
            raise DamagedBundle(f"{path.name} holds NaN or infinity", path=str(path), file=path.name)
        return cls(here, there)

    def turned(self) -> "Reference":
        """The same for the other direction."""
        return Reference(self.there, self.here)


class Adapter:
    """From the embeddings of one model to those of another. May be used from several threads at once."""

    def __init__(self, path: Path, entry: AdapterEntry, reference: Reference) -> None:
        """Open the graph. Raises DamagedBundle when it does not fit the reference."""
        self.default, self.weight = entry.default, np.float32(entry.weight)
        self.scales: Mapping[AdapterKind, float] = dict(entry.scales)
        self.reference = reference
        session = open_session(path)
        dims = reference.there.shape[1]
        outputs: dict[str, tuple[str, int | None]] = dict.fromkeys(OUTPUTS.values(), (FLOAT32, dims))
        check_signature(session, path, {EMBEDDING: (FLOAT32, reference.here.shape[1])}, outputs)
        graph = read_graph(path)
        self._sessions = {kind: open_session(path, 1, cut_out(graph, [name])) for kind, name in OUTPUTS.items()}

    def map(self, kind: AdapterKind, embeddings: Floats, dual: Floats | None) -> Floats:
        """embeddings (rows, dims) of this model, dual (rows, their dims) of the other -> (rows, their dims), unit rows.

        dual is needed by the kinds that need text, and only by those.
        """
        if kind is AdapterKind.DUAL:
            return cast(Floats, dual)
        learned_kind = AdapterKind.LINEAR if kind is AdapterKind.WEIGHTED else kind
        (mapped,) = self._sessions[learned_kind].run([OUTPUTS[learned_kind]], {EMBEDDING: embeddings})
        learned = unit(mapped)
        if kind is not AdapterKind.WEIGHTED:
            return learned
        return unit(self.weight * learned + (1 - self.weight) * cast(Floats, dual))

    def offsets(self, kind: AdapterKind, embeddings: Floats, mapped: Floats) -> NDArray[np.float64]:
        """(rows,): what is added to scale * score, so that it means as much as a score of this model."""
        return tails(embeddings, self.reference.here) - self.scales[kind] * tails(mapped, self.reference.there)

    def calibrated(self, reference: Reference, embeddings: Floats, dual: Floats | None) -> "Adapter":
        """The same maps, with tails and scales by other texts, such as a sample of the points that are searched.

        embeddings (rows, dims), dual (rows, their dims): some more of these texts, which serve as queries and are
        not in the reference. Without dual the kinds that need text keep their scales.
        """
        made, own = copy(self), max(LEAST_SPREAD, spread(embeddings, reference.here))
        able = [kind for kind in AdapterKind if dual is not None or not kind.needs_text]
        mapped = {kind: self.map(kind, embeddings, dual) for kind in able}
        scales = {kind: own / max(LEAST_SPREAD, spread(rows, reference.there)) for kind, rows in mapped.items()}
        made.reference, made.scales = reference, {**self.scales, **scales}
        return made


def tails(queries: Floats, texts: Floats) -> NDArray[np.float64]:
    """queries (rows, dims), texts (texts, dims) -> (rows,): mean of the highest TAIL_SHARE of the inner products."""
    scores, count = queries @ texts.T, max(1, round(TAIL_SHARE * len(texts)))
    highest = np.partition(scores, len(texts) - count, axis=1)[:, -count:]
    means: NDArray[np.float64] = highest.sum(axis=1, dtype=np.float64) / count
    return means


def spread(queries: Floats, texts: Floats) -> float:
    """Mean over the queries of how far the top of a tail lies over its end: the unit of its scores."""
    scores, count = np.sort(queries @ texts.T, axis=1), max(2, round(2 * TAIL_SHARE * len(texts)))
    highest = scores[:, -count:]
    return float((highest[:, -(count // 4 + 1) :].mean(axis=1) - highest[:, 0]).mean())


def open_adapters(bundle: Bundle, entry: CompatibilityEntry) -> tuple[Adapter, Adapter]:
    """Forward, from the bundle's embeddings to those of the entry's, and backward. Raises DamagedBundle."""
    reference = Reference.load(bundle.path / entry.reference)
    dims = reference.here.shape[1], reference.there.shape[1]
    if dims != (bundle.embedding_dims, entry.embedding_dims):
        raise DamagedBundle(
            f"{entry.reference} holds embeddings of {dims[0]} and {dims[1]} dims; the manifest says "
            f"{bundle.embedding_dims} and {entry.embedding_dims}",
            file=entry.reference,
        )
    return (
        Adapter(bundle.path / entry.forward.graph, entry.forward, reference),
        Adapter(bundle.path / entry.backward.graph, entry.backward, reference.turned()),
    )


class TextAdapter:
    """Where no bundle says how one model reaches another: the text alone leads there, and scores are as they are."""

    default = AdapterKind.DUAL
    scales: Mapping[AdapterKind, float] = {AdapterKind.DUAL: 1.0}

    def map(self, kind: AdapterKind, embeddings: Floats, dual: Floats | None) -> Floats:
        return cast(Floats, dual)

    def offsets(self, kind: AdapterKind, embeddings: Floats, mapped: Floats) -> NDArray[np.float64]:
        return np.zeros(len(embeddings))
