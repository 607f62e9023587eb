"""How a query of one embedding model reaches codes that were made from another: the one place that decides it.

Models are named by the fingerprint of their bundle. From one to the other leads an adapter of a bundle, or several of
them one after the other, or, where there is none, only the text of the query: it is embedded by the other model (dual).
What comes out is a query of the other model, with a scale and an offset that make its scores mean what those of the
query's own model mean. See `encoding.compatibility`.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr.encoding.adapters.adapter import Adapter
from bebr.encoding.bundles.manifest import AdapterKind
from bebr.engine.collections.encoders import CollectionEncoders
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.collections.version import Version

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of a route: to the model `target`, by an adapter; without one, only the text leads there."""

    target: str
    adapter: Adapter | None


@dataclass(frozen=True, slots=True)
class Reached:
    """A query of another model. embedding (1, dims) float32, unit. A score counts as scale * score + offset."""

    embedding: Floats
    scale: float
    offset: float
    kind: str


def route(encoders: CollectionEncoders, start: str | None, target: str | None, has_text: bool) -> list[Hop] | None:
    """The shortest route over adapters; else the text alone; None: there is no route."""
    if start is None or target is None:
        return None
    waiting: deque[tuple[str, list[Hop]]] = deque([(start, [])])
    seen = {start}
    while waiting:
        model, hops = waiting.popleft()
        for (here, there), adapter in encoders.adapters.items():
            if here == model and there not in seen:
                further = [*hops, Hop(there, adapter)]
                if there == target:
                    return further
                seen.add(there)
                waiting.append((there, further))
    return [Hop(target, None)] if has_text else None


def choose_kind(hop: Hop, chosen: str | None, has_dual: bool) -> AdapterKind:
    """The kind that was chosen, or that measured best; where it needs a text and there is none, the linear one."""
    if hop.adapter is None:
        return AdapterKind.DUAL
    kind = AdapterKind(chosen) if chosen is not None else hop.adapter.default
    return kind if has_dual or not kind.needs_text else AdapterKind.LINEAR


def needed_texts(
    encoders: CollectionEncoders, document: CollectionDocument, asking: Version, searched: Sequence[Version]
) -> dict[str, Version]:
    """The other models that must embed the text of a query of `asking`, each with a version of it."""
    models = {version.model_fingerprint: version for version in document.versions if encoders.embeds(version)}
    needed: dict[str, Version] = {}
    for version in searched:
        if version.model_fingerprint == asking.model_fingerprint:
            continue
        has_text = version.model_fingerprint in models
        for hop in route(encoders, asking.model_fingerprint, version.model_fingerprint, has_text) or []:
            able = hop.target in models
            if able and choose_kind(hop, document.upgrades.adapters.get(hop.target), able).needs_text:
                needed[hop.target] = models[hop.target]
    return needed


def reach(
    hops: Sequence[Hop], embeddings: Floats, duals: Mapping[str, Floats], chosen: Mapping[str, str]
) -> list[Reached] | None:
    """embeddings (rows, dims) float32, unit -> for each the query at the end of the route.

    duals: embeddings (rows, their dims) of their texts by other models, as far as they are there. None: a hop needs one
    that is missing.
    """
    scale, offsets, kinds = 1.0, np.zeros(len(embeddings)), []
    for hop in hops:
        dual = duals.get(hop.target)
        kind = choose_kind(hop, chosen.get(hop.target), dual is not None)
        if hop.adapter is None:
            if dual is None:
                return None
            crossed = dual
        else:
            crossed = hop.adapter.cross(kind, embeddings, dual)
            offsets += scale * hop.adapter.offsets(kind, embeddings, crossed)
            scale *= hop.adapter.scales[kind]
        embeddings = crossed
        kinds.append(str(kind))
    names = ", then ".join(kinds)
    return [Reached(row[None], scale, float(offset), names) for row, offset in zip(embeddings, offsets, strict=True)]
