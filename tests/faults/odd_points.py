"""Odd points as JSON text, and what every door makes of them."""

import json
import zlib
from typing import Any

from tests.encoding.importing.checkpoints import DIMS

VECTOR = [1.0, 2.0] * (DIMS // 2)
V = '"vector":' + json.dumps(VECTOR)
FIELDS = {
    "int": "integer",
    "float": "float",
    "bool": "bool",
    "word": "keyword",
    "words": "keyword[]",
    "a.b": "keyword",
    "l.b": "keyword[]",
}
SKIPPED = object()
"""For values that Python has no notion of."""


class Odd:
    """A point as JSON text, and what every door makes of it."""

    def __init__(self, raw: str | bytes, expected: Any, value: Any = None) -> None:
        """expected: the class of the error, or the metadata that is stored. value: what Python says for `raw`."""
        self.raw = raw.encode() if isinstance(raw, str) else raw
        self.expected = expected
        self.value = value
        if value is None:
            try:
                self.value = json.loads(self.raw)
            except (ValueError, RecursionError):
                self.value = SKIPPED


def metadata(text: str, expected: Any, value: Any = None) -> Odd:
    """A point with this metadata; None: it is stored as it is."""
    metadata.count += 1  # type: ignore[attr-defined]
    raw = f'{{"id":"m{metadata.count}",{V},"metadata":{text}}}'  # type: ignore[attr-defined]
    return Odd(raw, json.loads(text) if expected is None else expected, value)


metadata.count = 0  # type: ignore[attr-defined]


def with_id(text: str, expected: Any = None) -> Odd:
    return Odd(f'{{"id":{text},{V}}}', {} if expected is None else expected)


def source(text: str, expected: Any) -> Odd:
    return Odd(f'{{"id":"s{zlib.crc32(text.encode())}",{text}}}', expected)


def nested(depth: int) -> str:
    return '{"x":' * depth + "1" + "}" * depth


LONG = "word " * 14_000
ODD = [
    *(with_id(text, "InvalidId") for text in ("7", "7.0", "true", "null", '["a"]', '{"a":1}', '""')),
    with_id(json.dumps("x" * 256)),
    with_id(json.dumps("x" * 257), "InvalidId"),
    with_id('"' + "é" * 128 + '"'),
    with_id('"' + "é" * 129 + '"', "InvalidId"),
    *(with_id(text) for text in ('"7"', '"007"', '" "', '"a"', '"a\\n"', '"a/%0A?"', '"\\u0001"', '"\u2028"')),
    *(with_id(text) for text in ('"\\u00e9"', '"e\\u0301"', '"\\ud83d\\ude00"')),
    with_id('"\\u0000"', "InvalidId"),
    with_id('"\\ud800"', "Malformed"),
    Odd(f"{{{V}}}", "InvalidOption"),
    *(Odd(text, "InvalidOption") for text in ("5", '"x"', "[]", "null", "{}")),
    *(metadata(text, "InvalidMetadata") for text in ("[]", '"x"', "5", "true")),
    metadata("null", {}),
    *(metadata(f'{{"x":{text}}}', "InvalidMetadata") for text in ("NaN", "-Infinity", "1e999", "[{}, [NaN]]")),
    *(metadata(f'{{"x":{text}}}', None) for text in ("1" + "0" * 30, "-0.0", "1e5", '"\\u0000"', '"\\u000b"', "null")),
    metadata('{"x":"\u2028\x85"}', None),
    metadata('{"":1}', None),
    metadata('{"x":1,"x":2}', {"x": 2}),
    *(metadata(f'{{"int":{text}}}', None) for text in ("9223372036854775807", "-9223372036854775808", "2024.0", "1e3")),
    *(metadata(f'{{"int":{text}}}', "InvalidMetadata") for text in ("9223372036854775808", "1e19", "2024.5")),
    *(metadata(f'{{"int":{text}}}', "InvalidMetadata") for text in ('"2024"', "true", "[1]", "NaN")),
    *(metadata(f'{{"bool":{text}}}', "InvalidMetadata") for text in ("1", '"true"')),
    *(metadata(f'{{"float":{text}}}', None) for text in ("1", "9007199254740993", "-0.0", "1e308")),
    *(metadata(f'{{"float":{text}}}', "InvalidMetadata") for text in ('"1.5"', "true", "1e309", "1" + "0" * 400)),
    *(metadata(f'{{"word":{text}}}', "InvalidMetadata") for text in ("5", '["a"]', json.dumps("x" * 1025))),
    *(metadata(f'{{"word":{text}}}', None) for text in ("null", json.dumps("x" * 1024), '""')),
    *(metadata(f'{{"words":{text}}}', "InvalidMetadata") for text in ('"a"', "[1]", "[null]", json.dumps(["a"] * 257))),
    metadata('{"words":[]}', None),
    *(metadata(text, None) for text in ('{"a":{"b":"c"}}', '{"a.b":"c"}', '{"a":{"c":1}}', '{"a":5}')),
    *(metadata(text, "InvalidMetadata") for text in ('{"a":{"b":5}}', '{"a.b":5}', '{"a":[{"b":"c"}]}')),
    metadata('{"l":[{"b":"c"},{"b":["d"]},{}]}', None),
    metadata('{"l":{"b":"c"}}', "InvalidMetadata"),
    metadata(nested(150), None),
    metadata(nested(195), "InvalidMetadata"),
    metadata(nested(5000), "Malformed", SKIPPED),
    metadata(json.dumps({"x": "y" * 70_000}), "InvalidMetadata"),
    metadata('{"x":"\\udc00"}', "Malformed"),
    metadata('{"x":"\x0b"}', "Malformed", SKIPPED),
    metadata('{"x":' + "1" * 5000 + "}", "Malformed", SKIPPED),
    *(source(text, "InvalidOption") for text in ('"metadata":{}', '"text":"a","vector":[1]', '"text":"a","txt":"b"')),
    *(source(f'"text":{text}', "InvalidText") for text in ('""', '" \\n"', "5", '["a"]', json.dumps("x" * 100_001))),
    source(f'"text":"{LONG}"', {"text": LONG}),
    source(f'"text":"a","metadata":{{"text":"{LONG}"}}', {"text": LONG}),
    source(f'"text":"{LONG}","metadata":{{"x":"{"y" * 66_000}"}}', "InvalidMetadata"),
    source('"vector":[1]', "DimensionMismatch"),
    *(
        source('"vector":' + json.dumps(VECTOR[1:]).replace("[", f"[{text},"), "InvalidVector")
        for text in ("NaN", "1e999", "1e39", '"1"', "null")
    ),
    source('"vector":' + json.dumps([0.0] * DIMS), "InvalidVector"),
    source('"vector":' + json.dumps([True] * DIMS), "InvalidVector"),
    source('"vector_b64":"AA A="', "InvalidVector"),
    source('"code_b64":"?"', "InvalidCode"),
    *(Odd(raw, "Malformed") for raw in ('{"id":"a",}', "{'id':'a'}", '{"id":"a"} x', '{"id":"a"', "// a", '{"id":01}')),
    Odd(b'{"id":"caf\xe9","text":"a"}', "Malformed"),
    Odd(b'{"id":"a\0b","text":"a"}', "Malformed"),
    Odd(b'{"id":"\xed\xa0\x80","text":"a"}', "Malformed"),
]
