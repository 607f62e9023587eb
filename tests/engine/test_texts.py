"""Texts of a request are embedded in whole batches of the model, sorted by their true lengths."""

import numpy as np
from tests.encoding.importing.checkpoints import WORDS

from bebr.encoding.embedding.model import plan_batches
from bebr.engine.texts import WINDOW_CHARS, WINDOW_TEXTS, _cut, _windows

LENGTHS = np.random.default_rng(0).integers(3, 120, 500).tolist()


def padded(lengths: list[int], batch_tokens: int) -> int:
    return sum(lengths[rows[0]] * len(rows) for rows in plan_batches(lengths, batch_tokens))


def test_pieces_are_whole_batches() -> None:
    """What the model plans within the pieces is what it would plan for all texts at once."""
    pieces = list(_cut(LENGTHS, 512, 1024))
    assert sorted(place for piece in pieces for place in piece) == list(range(len(LENGTHS)))
    within = sum(padded([LENGTHS[place] for place in piece], 512) for piece in pieces)
    assert within == padded(LENGTHS, 512) <= 1.03 * sum(LENGTHS)
    assert all(padded([LENGTHS[place] for place in piece], 512) <= 1024 for piece in pieces)


def test_a_model_that_takes_texts_one_by_one_still_gets_pieces() -> None:
    pieces = list(_cut(LENGTHS, 1, 1024))
    assert len(pieces) < len(LENGTHS) / 4
    assert sorted(place for piece in pieces for place in piece) == list(range(len(LENGTHS)))


def test_windows_bound_what_is_tokenized_at_once() -> None:
    texts = [" ".join(WORDS)] * (WINDOW_TEXTS + 1) + ["x" * WINDOW_CHARS] * 2 + [""]
    windows = list(_windows(texts))
    assert [start for start, _ in windows] == [0, *(end for _, end in windows[:-1])] and windows[-1][1] == len(texts)
    for start, end in windows:
        assert end - start == 1 or sum(map(len, texts[start:end])) <= WINDOW_CHARS
        assert 1 <= end - start <= WINDOW_TEXTS
