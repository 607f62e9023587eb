"""Bodies of plain searches, read without a model: a base64 vector or a text, and how many hits.

Reading one takes a fraction of what validation takes. Whatever is not exactly of this shape, and whatever may be wrong,
is None here, and the model reads it, which names what is wrong. Tests hold both to the same requests.
"""

from typing import Any

from pydantic_core import from_json

from bebr.engine import SearchRequest
from bebr.engine.inputs import plain_vector

MAX_BYTES = 2**16
"""Larger bodies are not worth a second reading."""
_KEYS = frozenset({"vector_b64", "text", "limit", "with_metadata"})


def read_plain(body: bytes) -> SearchRequest | None:
    """The request, or None where the model has to read it."""
    if len(body) > MAX_BYTES:
        return None
    try:
        data = from_json(body)
    except ValueError:
        return None
    if type(data) is not dict or not data.keys() <= _KEYS:
        return None
    limit, with_metadata = data.get("limit", 10), data.get("with_metadata", True)
    if type(limit) is not int or limit < 1 or type(with_metadata) is not bool:
        return None
    return _of_source(data, limit, with_metadata)


def _of_source(data: dict[str, Any], limit: int, with_metadata: bool) -> SearchRequest | None:
    text, vector = data.get("text"), data.get("vector_b64")
    if vector is None:
        return SearchRequest(text=text, limit=limit, with_metadata=with_metadata) if type(text) is str else None
    if text is not None or type(vector) is not str:
        return None
    if (read := plain_vector(vector)) is None:
        return None
    return SearchRequest(vector=read, limit=limit, with_metadata=with_metadata)
