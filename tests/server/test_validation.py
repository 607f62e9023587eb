"""What a caller is told about a body that is wrong."""

import pytest

from bebr.errors import InvalidOption, Malformed
from bebr.server.bodies.body import parse
from bebr.server.problems import status_of
from bebr.server.requests.search import Search, SearchBatch


@pytest.mark.parametrize(
    ("body", "line", "column"),
    [(b'{"text": "a",\n "limit": }', 2, 11), (b"", 1, 0), (b'{"text": "\xff"}', 1, 11), (b'{"a":' * 300, 1, None)],
)
def test_a_body_that_does_not_parse_is_malformed_at_a_place(body: bytes, line: int, column: int | None) -> None:
    with pytest.raises(Malformed) as caught:
        parse(Search, body)
    assert caught.value.fields["line"] == line
    assert column is None or caught.value.fields["column"] == column
    assert status_of(type(caught.value)) == 422


@pytest.mark.parametrize(
    ("body", "key", "detail"),
    [
        (b'{"limitt": 3}', "limitt", "did you mean 'limit'?"),
        (b'{"wholly_unknown": 3}', "wholly_unknown", "known: text, vector"),
        (b'{"limit": 0}', "limit", "greater than or equal to 1"),
        (b'{"limit": "3"}', "limit", "valid integer"),
        (b'{"limit": true}', "limit", "valid integer"),
        (b'{"scorer": "bm25"}', "scorer", "'hamming', 'sdc' or 'adc'"),
        (b'{"with_metadata": 3}', "with_metadata", "valid boolean"),
        (b'{"with_metadata": ["a", 3]}', "with_metadata[1]", "valid string"),
        (b'{"vector": [1, "2"]}', "vector[1]", "valid number"),
        (b'{"score_threshold": NaN}', "score_threshold", "finite number"),
        (b"[]", "body", "an object"),
    ],
)
def test_a_field_at_fault_is_named(body: bytes, key: str, detail: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        parse(Search, body)
    assert caught.value.fields["key"] == key
    assert detail in caught.value.detail


def test_the_place_in_a_batch_is_named() -> None:
    with pytest.raises(InvalidOption) as caught:
        parse(SearchBatch, b'{"searches": [{"text": "a"}, {"text": "a", "limit": -1, "offset": -1}]}')
    assert set(caught.value.fields["errors"]) == {"searches[1].limit", "searches[1].offset"}
    assert "(and 1 more)" in caught.value.detail
