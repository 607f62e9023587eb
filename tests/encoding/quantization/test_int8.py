"""Embeddings in 8 bits a dimension: near what they represent, sound for adc, and small mistakes named."""

import numpy as np
import pytest
from tests.encoding.quantization.embeddings import text_like

from bebr.core.codes import CodeSpec, split_records
from bebr.core.scoring import dot_scores, prepare_adc
from bebr.encoding.quantization.int8 import Int8Binarizer
from bebr.encoding.quantization.training import check_size, least_rows
from bebr.errors import DimensionMismatch, InvalidOption


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("dims", [1, 3, 32, 384, 2048, 8192])
def test_what_is_decoded_is_what_was_encoded(dims: int) -> None:
    rows = np.tile(text_like(200, dims=min(dims, 2048), common_mean=0.3), max(1, dims // 2048))
    codec = Int8Binarizer(dims)
    records = codec.encode(rows)
    assert records.shape == (200, codec.spec.record_size_bytes) == (200, 2 * ((dims + 1) // 2) + 2)
    decoded = codec.decode(records)
    assert decoded.dtype == np.float32 and np.allclose(np.linalg.norm(decoded, axis=1), 1, atol=1e-5)
    assert cosines(rows, decoded).min() > 0.9999
    again = codec.decode(codec.encode(decoded))
    assert cosines(decoded, again).min() > 0.9999


def test_rows_with_single_large_values_lose_little() -> None:
    rows = np.random.default_rng(0).standard_normal((100, 384)).astype(np.float32)
    rows[:, 7] *= 20
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    codec = Int8Binarizer(384)
    assert cosines(rows, codec.decode(codec.encode(rows))).min() > 0.999
    axes = np.eye(384, dtype=np.float32)
    assert cosines(axes, codec.decode(codec.encode(axes))).min() > 0.99


def test_adc_estimates_the_cosine_of_the_embeddings() -> None:
    rows, queries = text_like(500), text_like(20, seed=1)
    codec = Int8Binarizer(rows.shape[1])
    codes, gains = split_records(codec.encode(rows), codec.spec)
    prepared = prepare_adc(codec.project(queries), codec.spec, codec.steps)
    scores = dot_scores(prepared, codes, gains, codec.spec)
    assert np.abs(scores - queries @ rows.T).max() < 0.01


def test_wrong_shapes_are_named() -> None:
    assert Int8Binarizer(8192).spec == CodeSpec.parse("8192x4+8192x4")
    for dims in (0, 8193):
        with pytest.raises(InvalidOption, match="8192"):
            Int8Binarizer(dims)
    with pytest.raises(DimensionMismatch):
        Int8Binarizer(8).encode(np.ones((2, 9), np.float32))
    with pytest.raises(DimensionMismatch):
        Int8Binarizer(8).project(np.ones(8, np.float32))


def test_the_least_sample_is_what_a_fit_takes() -> None:
    from bebr.encoding.quantization.training import fit_own
    from bebr.errors import InvalidEmbeddings

    for dims in (16, 120):
        least = least_rows(dims)
        files, figures = fit_own(text_like(least, dims=dims), 4)
        assert files.spec.code_size_bytes == 4 and 0 < figures["recall_at_10"] <= 1 and figures["rows"] == least
        with pytest.raises(InvalidEmbeddings, match="too few"):
            fit_own(text_like(least - 1, dims=dims), 4)
    files, figures = fit_own(text_like(400), 4, 24)
    assert files.spec.code_size_bytes == 4 and files.spec.rescore_code_size_bytes == 24 and files.rescore is not None
    assert figures["rescored_recall_at_10"] > figures["recall_at_10"] + 0.2
    assert figures["coverage"][0] == {"candidates": 10, "share": figures["recall_at_10"]}
    assert figures["candidates"] in [one["candidates"] for one in figures["coverage"]]
    assert least_rows(8) == 124 and least_rows(2048) == 2559
    check_size(16, 32)
    for size in (0, 17):
        with pytest.raises(InvalidOption, match="1 to 16 bytes"):
            check_size(size, 32)
