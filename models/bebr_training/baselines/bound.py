"""The Gaussian rate-distortion bound of a collection: what no code of so many bits could pass, were the data Gaussian.

Reverse water-filling (Cover and Thomas, Elements of Information Theory, theorem 10.3.3): with variances s_i along the
principal axes and a level w, axis i gets the distortion D_i = min(w, s_i) and the rate 1/2 log2(s_i / D_i) bits; w is
the one where the rates sum to the bits of the code. An optimal code of very many vectors at once would leave

    z^_i = (1 - D_i / s_i) z_i + noise of variance D_i (1 - D_i / s_i)          the forward test channel

of each centred document z = x - mean. That is simulated: documents are passed through the channel, and float queries
search them by <q, z^>. The query is not centred, because <q, x> = <q, mean> + <q, z> and the first term is the same for
every document; there is no gain, and the length of x^ is left as it is, because z^ is already E[z | code].

Real embeddings are not Gaussian and have length one, so this is a bound of the spectrum alone. What a code knows beyond
that may carry it past: clusters, as a product quantizer's codebooks do, and the length. For the latter there is a
second figure, with x^ = mean + z^ brought to length one before it is scored; it finds more, most at few bytes. With
queries that pass the documents' channel too it shows what the symmetric distance would find at that rate.
"""

import numpy as np
from numpy.typing import NDArray

from bebr_training.baselines.spectrum import Documents
from bebr_training.search.ranking import Rows, dot_search

Floats = NDArray[np.float32]
SEEDS = (0, 1, 2)


def water_fill(variances: NDArray[np.float64], bits: float) -> NDArray[np.float64]:
    """variances (dims,) float64, not negative -> distortions (dims,) float64 at a rate of `bits` in all.

    With no bits, or where all variances are zero, the distortions are the variances.
    """
    positive = variances[variances > variances.max(initial=0.0) * 1e-12]
    if bits <= 0 or not len(positive):
        return variances.copy()
    logs = np.sort(np.log2(positive))[::-1] / 2
    # With the n widest axes above the level, log2(level) / 2 = (sum of their logs - bits) / n; n is the largest that
    # leaves the n-th above it.
    levels = (np.cumsum(logs) - bits) / np.arange(1, len(logs) + 1)
    level = levels[np.flatnonzero(logs > levels)[-1]]
    distortions: NDArray[np.float64] = np.minimum(variances, 2 ** (2 * level))
    return distortions


def channel(documents: Documents, bits: float, seed: int, queries: Floats | None = None) -> Floats:
    """The centred documents after the forward test channel, in principal axes: (rows, kept) float32.

    With queries (rows, dims) it is these that pass, centred by the documents' mean.
    """
    variances = documents.variances
    distortions = water_fill(variances, bits)
    kept = int((distortions < variances).sum())
    keep = 1 - distortions[:kept] / variances[:kept]
    entering: Floats = documents.centred if queries is None else (queries - documents.mean)
    noise = np.random.default_rng(seed).standard_normal((len(entering), kept), np.float32)
    passed: Floats = entering @ documents.axes[:, :kept]
    passed *= keep.astype(np.float32)
    passed += noise * np.sqrt(distortions[:kept] * keep).astype(np.float32)
    return passed


def search_at_bound(
    documents: Documents, queries: Floats, size_bytes: int, k: int, length_one: bool, symmetric: bool = False
) -> list[Rows]:
    """Rows (queries, k) found among the documents at the bound of that size; one for each seed.

    length_one: whether documents, with their mean, are brought to length one after the channel. symmetric: whether the
    queries pass the channel too, with noise of their own; else they are floats.
    """
    found = []
    for seed in SEEDS:
        passed = channel(documents, 8 * size_bytes, seed)
        axes = documents.axes[:, : passed.shape[1]]
        mean, asked, along_mean = documents.mean, queries @ axes, queries @ documents.mean
        if symmetric:
            seen = channel(documents, 8 * size_bytes, len(SEEDS) + seed, queries)
            asked, along_mean = mean @ axes + seen, mean @ mean + seen @ (mean @ axes)
        if not length_one:
            found.append(dot_search(passed)(asked, k))
            continue
        # The mean is one more dimension, in which every document has the value one.
        squares = mean @ mean + 2 * (passed @ (mean @ axes)) + np.einsum("ij,ij->i", passed, passed)
        ones = np.ones((len(passed), 1), np.float32)
        values = np.hstack([passed, ones]) / np.sqrt(np.maximum(squares, 1e-12))[:, None]
        found.append(dot_search(values)(np.hstack([asked, along_mean[:, None]]), k))
    return found
