"""The Gaussian rate-distortion bound of a collection: what no code of that many bits could exceed on Gaussian data.

Reverse water-filling (Cover and Thomas, Elements of Information Theory, theorem 10.3.3): with variances s_i along the
principal axes and a level w, axis i gets the distortion D_i = min(w, s_i) and the rate 1/2 log2(s_i / D_i) bits; w is
the one where the rates sum to the bits of the code. An optimal code of very many vectors at once would leave

    z^_i = (1 - D_i / s_i) z_i + noise of variance D_i (1 - D_i / s_i)          the forward test channel

of each centered document z = x - mean. This is simulated: documents pass through the channel, and float queries search
them by <q, z^>. The query is not centered, because <q, x> = <q, mean> + <q, z> and the first term is the same for every
document. There is no gain, and x^ keeps its length, because z^ is already E[z | code].

Real embeddings are not Gaussian and have length one, so this is a bound of the spectrum alone. A code that knows more
may exceed it: the clusters, as the codebooks of a product quantizer do, or the length. A second bound accounts for the
length: x^ = mean + z^ is scaled to length one before it is scored. With queries that pass through the channel as well,
it shows what the symmetric distance would find at that rate.
"""

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr_training.baselines.spectrum import Documents
from bebr_training.search.ranking import Rows, dot_search

SEEDS = (0, 1, 2)
"""One simulation each."""


def water_fill(variances: NDArray[np.float64], bits: float) -> NDArray[np.float64]:
    """variances (dims,) float64, not negative -> distortions (dims,) float64 at a total rate of `bits`.

    Without bits, or where all variances are zero, the distortions are the variances.
    """
    positive = variances[variances > variances.max(initial=0.0) * 1e-12]
    if bits <= 0 or not len(positive):
        return variances.copy()
    logs = np.sort(np.log2(positive))[::-1] / 2
    # With the n widest axes above the level, log2(level) / 2 = (sum of their logs - bits) / n. The largest n that keeps
    # the n-th axis above it is right.
    levels = (np.cumsum(logs) - bits) / np.arange(1, len(logs) + 1)
    level = levels[np.flatnonzero(logs > levels)[-1]]
    distortions: NDArray[np.float64] = np.minimum(variances, 2 ** (2 * level))
    return distortions


def channel(documents: Documents, bits: float, seed: int, queries: Floats | None = None) -> Floats:
    """The centered documents after the forward test channel, in principal axes: (rows, kept) float32.

    queries (rows, dims): pass these instead, centered by the mean of the documents.
    """
    variances = documents.variances
    distortions = water_fill(variances, bits)
    kept = int((distortions < variances).sum())
    keep = 1 - distortions[:kept] / variances[:kept]
    entering: Floats = documents.centered if queries is None else (queries - documents.mean)
    noise = np.random.default_rng(seed).standard_normal((len(entering), kept), np.float32)
    passed: Floats = entering @ documents.axes[:, :kept]
    passed *= keep.astype(np.float32)
    passed += noise * np.sqrt(distortions[:kept] * keep).astype(np.float32)
    return passed


def search_at_bound(
    documents: Documents, queries: Floats, size_bytes: int, k: int, length_one: bool, symmetric: bool = False
) -> list[Rows]:
    """The rows (queries, k) that are found at the bound of that size, once for each seed.

    length_one: scale documents, with their mean, to length one after the channel. symmetric: pass the queries through
    the channel as well, with noise of their own.
    """
    found = []
    for seed in SEEDS:
        passed = channel(documents, 8 * size_bytes, seed)
        axes = documents.axes[:, : passed.shape[1]]
        mean, projected, along_mean = documents.mean, queries @ axes, queries @ documents.mean
        if symmetric:
            seen = channel(documents, 8 * size_bytes, len(SEEDS) + seed, queries)
            projected, along_mean = mean @ axes + seen, mean @ mean + seen @ (mean @ axes)
        if not length_one:
            found.append(dot_search(passed)(projected, k))
            continue
        # The mean is one more dimension, in which every document has the value one.
        squares = mean @ mean + 2 * (passed @ (mean @ axes)) + np.einsum("ij,ij->i", passed, passed)
        ones = np.ones((len(passed), 1), np.float32)
        values = np.hstack([passed, ones]) / np.sqrt(np.maximum(squares, 1e-12))[:, None]
        found.append(dot_search(values)(np.hstack([projected, along_mean[:, None]]), k))
    return found
