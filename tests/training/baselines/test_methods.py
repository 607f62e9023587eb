"""Baselines keep to their bytes, do what is published, and the bound is that of theory."""

import faiss
import numpy as np
import pytest
from tests.encoding.quantization.embeddings import text_like

from bebr.core.arrays import Floats
from bebr.core.scoring import Scorer
from bebr.errors import InvalidOption
from bebr_training.baselines import faiss_methods, numpy_methods
from bebr_training.baselines.bound import channel, search_at_bound, water_fill
from bebr_training.baselines.methods import BASELINES, choose_baselines, parse_sizes
from bebr_training.baselines.product import train_opq, train_pq
from bebr_training.baselines.spectrum import Documents, closest_orthonormal, tight_frame
from bebr_training.search.metrics import recall_per_query
from bebr_training.search.ranking import dot_search

SIZES = (2, 4, 8)
DOCUMENTS = Documents(text_like(2000))
QUERIES = text_like(100, seed=1)
TRUTH = dot_search(DOCUMENTS.rows)(QUERIES, 10)
CHANCE = 10 / len(DOCUMENTS.rows)


def recall(found: np.ndarray) -> float:
    return float(recall_per_query(found, TRUTH, 10).mean())


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_a_baseline_keeps_to_its_bytes_and_finds_more_with_more(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(numpy_methods, "OPQ_ROUNDS", 10)
    variants = BASELINES[name][1]
    best: dict[Scorer, list[float]] = {}
    for size_bytes in (16, 32) if name == "rabitq" else SIZES:  # its factors alone take 8 bytes
        found: dict[Scorer, list[float]] = {}
        for variant in variants(DOCUMENTS, size_bytes):
            assert 0 < variant.size_bytes <= size_bytes
            found.setdefault(variant.scorer, []).append(recall(variant.search(QUERIES, 10)))
        for scorer, recalls in found.items():
            best.setdefault(scorer, []).append(max(recalls))
    assert best
    for scorer, recalls in best.items():
        assert recalls == sorted(recalls), (scorer, recalls)
        assert recalls[-1] > 5 * CHANCE


@pytest.mark.parametrize(
    ("name", "size_bytes"),
    [("sign", 40), ("itq", 40), ("sq4", 40), ("pca-float32", 300), ("rabitq", 48), ("rabitq-free", 40)],
)
def test_a_baseline_with_room_for_more_than_all_dims(name: str, size_bytes: int):
    for variant in BASELINES[name][1](DOCUMENTS, size_bytes):
        assert variant.size_bytes <= size_bytes
        assert recall(variant.search(QUERIES, 10)) > 0.6


def test_no_product_quantizer_has_more_parts_than_dims():
    assert list(numpy_methods.pq(DOCUMENTS, 65)) == list(numpy_methods.opq(DOCUMENTS, 65)) == []


def test_a_float_query_finds_more_than_a_signed_one():
    for method in (numpy_methods.sign, numpy_methods.sign_centered, numpy_methods.itq):
        recalls = {v.scorer: recall(v.search(QUERIES, 10)) for v in method(DOCUMENTS, 8)}
        assert recalls[Scorer.ADC] > recalls[Scorer.HAMMING]


@pytest.mark.parametrize("bits", [16, 64, 128])
def test_itq_turns_without_stretching_and_its_signs_come_closer(bits: int):
    projection = numpy_methods.itq_projection(DOCUMENTS, bits)
    gram = projection.T @ projection if bits <= 64 else projection @ projection.T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-4)

    def error(turn: np.ndarray) -> float:
        z = DOCUMENTS.centered @ turn
        return float((1 - np.abs(z).sum(axis=1) / np.linalg.norm(z, axis=1) / np.sqrt(bits)).mean())

    kept = min(bits, 64)
    random = DOCUMENTS.axes[:, :kept] @ tight_frame(kept, bits, np.random.default_rng(5))
    assert error(projection) < error(random)


def test_the_closest_orthonormal_matrix_is_that_of_the_singular_vectors():
    matrix = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    np.testing.assert_allclose(closest_orthonormal(matrix), left @ right, atol=1e-4)
    lacking = closest_orthonormal(np.outer(matrix[:, 0], matrix[0]))
    np.testing.assert_allclose(lacking @ lacking.T, np.eye(20), atol=1e-4)


def test_pq_errs_as_little_as_that_of_faiss_and_opq_less():
    theirs = faiss.ProductQuantizer(64, 8, 8)
    theirs.cp.min_points_per_centroid = 1
    theirs.train(DOCUMENTS.rows)
    decoded = theirs.decode(theirs.compute_codes(DOCUMENTS.rows))
    ours = train_pq(DOCUMENTS.rows, 8, 25, 0)
    turned = train_opq(DOCUMENTS.rows, DOCUMENTS.rows, 8, 20, 25, 0)

    def error(values: np.ndarray, rows: np.ndarray) -> float:
        return float(((values - rows) ** 2).sum(axis=1).mean())

    plain = error(ours.decode(ours.encode(DOCUMENTS.rows)), DOCUMENTS.rows)
    assert plain == pytest.approx(error(decoded, DOCUMENTS.rows), rel=0.03)
    assert error(turned.decode(turned.encode(DOCUMENTS.rows)), DOCUMENTS.rows @ turned.rotation) < 0.97 * plain


def test_a_product_quantizer_of_dims_that_do_not_divide():
    quantizer = train_pq(DOCUMENTS.rows, 7, 3, 0)
    assert quantizer.encode(DOCUMENTS.rows[:5]).shape == (5, 7)
    assert quantizer.decode(quantizer.encode(DOCUMENTS.rows[:5])).shape == (5, 70)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_rabitq_scores_as_the_search_of_faiss(bits: int):
    values, projection = faiss_methods.rabitq_values(DOCUMENTS, bits, 32)
    queries, stored = QUERIES @ projection, DOCUMENTS.centered @ projection
    index = faiss.IndexRaBitQ(32, faiss.METRIC_INNER_PRODUCT, bits)
    index.qb = 0
    index.train(stored)
    index.add(stored)
    scores, rows = index.search(queries, 10)
    ours = np.take_along_axis(queries @ values.T, rows, axis=1)
    spread = (queries @ values.T).std()
    # Their scan with several bits skips rows by a bound that holds with high probability only.
    np.testing.assert_allclose(ours, scores, atol=0.02 * spread)
    assert recall_per_query(dot_search(values)(queries, 10), rows, 10).mean() > 0.9


def test_water_filling_is_that_of_the_closed_form():
    variances = np.array([4.0, 2.0, 1.0, 0.25, 0.0])
    for bits in (0.5, 2.0, 5.0, 40.0):
        distortions = water_fill(variances, bits)
        assert (distortions <= variances).all()
        rate = 0.5 * np.log2(variances[:4] / distortions[:4]).sum()
        assert rate == pytest.approx(bits)
        wet = distortions[distortions < variances]
        assert np.ptp(wet) < 1e-12
        assert (variances[distortions == variances] <= wet[0] + 1e-12).all()
    # All axes alike: D(R) = s 2^(-2R / n).
    np.testing.assert_allclose(water_fill(np.full(8, 3.0), 16), 3 * 2.0**-4)
    np.testing.assert_array_equal(water_fill(variances, 0), variances)


@pytest.mark.parametrize("size_bytes", [4, 16])
def test_the_channel_has_the_distortion_of_its_rate(size_bytes: int):
    passed = channel(DOCUMENTS, 8 * size_bytes, seed=0)
    kept = passed.shape[1]
    z = DOCUMENTS.centered @ DOCUMENTS.axes
    errors = np.concatenate([((passed - z[:, :kept]) ** 2).mean(axis=0), (z[:, kept:] ** 2).mean(axis=0)])
    assert errors.sum() == pytest.approx(water_fill(DOCUMENTS.variances, 8 * size_bytes).sum(), rel=0.03)


def test_the_bound_lies_above_scalar_codes_and_rises_to_float():
    def bound(size_bytes: int, length_one: bool) -> float:
        return float(np.mean([recall(f) for f in search_at_bound(DOCUMENTS, QUERIES, size_bytes, 10, length_one)]))

    plain = [bound(size_bytes, False) for size_bytes in (4, 8, 16, 200)]
    assert plain == sorted(plain)
    assert plain[-1] > 0.99
    assert plain[1] > max(recall(v.search(QUERIES, 10)) for v in numpy_methods.itq(DOCUMENTS, 8))
    assert bound(8, True) > plain[1]


def test_the_bound_at_length_one_is_the_cosine_of_what_the_channel_left():
    left = channel(DOCUMENTS, 64, 0)
    vectors = DOCUMENTS.mean + left @ DOCUMENTS.axes[:, : left.shape[1]].T
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = search_at_bound(DOCUMENTS, QUERIES, 8, 10, True)[0]
    assert recall_per_query(found, dot_search(vectors)(QUERIES, 10), 10).mean() > 0.995


def test_the_symmetric_bound_is_the_cosine_of_what_the_channel_left_on_both_sides():
    def left(seed: int, queries: Floats | None = None) -> Floats:
        passed = channel(DOCUMENTS, 64, seed, queries)
        return DOCUMENTS.mean + passed @ DOCUMENTS.axes[:, : passed.shape[1]].T

    documents, queries = left(0), left(3, QUERIES)
    vectors = documents / np.linalg.norm(documents, axis=1, keepdims=True)
    found = search_at_bound(DOCUMENTS, QUERIES, 8, 10, True, symmetric=True)[0]
    assert recall_per_query(found, dot_search(vectors)(queries, 10), 10).mean() > 0.995
    assert recall(found) < recall(search_at_bound(DOCUMENTS, QUERIES, 8, 10, True)[0])


@pytest.mark.parametrize("distinct", [2, 5])
def test_documents_that_vary_in_few_directions(distinct: int):
    rows = np.repeat(text_like(distinct), 300 // distinct, axis=0)
    for size_bytes in (9, 40):
        for _, variants in BASELINES.values():
            for variant in variants(Documents(rows), size_bytes):
                assert (variant.search(QUERIES[:3], 10) >= 0).all()


def test_names_and_sizes_that_do_not_exist():
    assert list(choose_baselines("opq, sq4")) == ["OPQ", "PCA, SQ4"]
    assert choose_baselines("none") == {}
    assert len(choose_baselines("all")) == len(BASELINES)
    with pytest.raises(InvalidOption, match=r"some of sign, .* got 'lsh'"):
        choose_baselines("opq,lsh")
    assert parse_sizes("64, 32,64") == [32, 64]
    for wrong in ("", "64,x", "0", "-3", "64.5"):
        with pytest.raises(InvalidOption, match="--bytes"):
            parse_sizes(wrong)
