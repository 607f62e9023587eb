"""What is read without a model is what the model reads; whatever the model refuses is left to it."""

import base64
import json
from dataclasses import fields
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bebr.engine import SearchRequest
from bebr.errors import BebrError
from bebr.server.bodies.body import parse
from bebr.server.requests.search import Search
from bebr.server.routes.plain_search import read_plain
from bebr.server.routes.search import to_request

VECTOR = base64.b64encode(np.arange(4, dtype="<f4").tobytes()).decode()
ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())
VALUES = {
    "vector_b64": st.sampled_from([VECTOR, VECTOR[:-1], VECTOR + "=", "", "AAA=", "?" * 4, f" {VECTOR}"]) | ANYTHING,
    "text": st.sampled_from(["words", "", "\ud83d\ude00"]) | ANYTHING,
    "limit": st.sampled_from([1, 10, 0, -1, 3.0, True, 2**70]) | ANYTHING,
    "with_metadata": st.sampled_from([True, False, ["a"], 1]) | ANYTHING,
    "offset": st.sampled_from([0, 3]),
    "filter": st.sampled_from([{}, None]),
    "unknown": ANYTHING,
}
BODIES = st.fixed_dictionaries({}, optional=VALUES)


def by_model(body: bytes) -> SearchRequest | None:
    try:
        return to_request(parse(Search, body))
    except BebrError:
        return None


def same(one: Any, other: Any) -> bool:
    return (
        bool(np.array_equal(one, other)) if isinstance(one, np.ndarray) else type(one) is type(other) and one == other
    )


@settings(max_examples=150, deadline=None)
@given(data=BODIES)
def test_a_plain_body_is_read_as_the_model_reads_it(data: dict[str, Any]) -> None:
    body = json.dumps(data).encode()
    if (plain := read_plain(body)) is not None:
        model = by_model(body)
        assert model is not None
        for field in fields(SearchRequest):
            assert same(getattr(plain, field.name), getattr(model, field.name)), field.name


def test_which_bodies_are_plain() -> None:
    for body in (
        f'{{"vector_b64":"{VECTOR}"}}',
        f'{{"limit":3,"vector_b64":"{VECTOR}","with_metadata":false}}',
        f'{{"limit":3,"limit":4,"vector_b64":"{VECTOR}"}}',
        ' {"text":"words", "limit": 1}\n',
    ):
        assert read_plain(body.encode()) is not None, body
        assert by_model(body.encode()) is not None, body
    for body in (
        "", "[]", "1", '{"text":"a"', '{"text":"a","vector_b64":"AAAA"}', '{"limit":3}', '{"text":null}',
        '{"text":"a","limit":3.0}', '{"text":"a","limit":true}', '{"text":"a","rescore":false}', '{"text":"a","x":1}',
        '\ufeff{"text":"a"}', '{"vector_b64":"AAA"}', '{"vector_b64":"AAAA"}',
    ):  # fmt: skip
        assert read_plain(body.encode()) is None, body
