"""Compares answers with those that an older release gave: what must be the same, and under which names."""

import base64
import json
import math
from typing import Any

import numpy as np

# fmt: off
KEPT = frozenset((
    "hits", "results", "points", "missing", "count", "searched", "query_version", "cursor",
    "id", "score", "version", "metadata", "distance", "code_b64",
    "name", "points_per_version", "active_version", "code", "code_bytes", "bundle", "text_field", "filterable",
    "fit", "state", "bytes", "sample", "collected", "recall_at_10", "queries",
    "collection", "active", "previous", "versions", "model", "fingerprint", "retired",
    "evaluations", "gain", "mean", "low", "high", "measure", "history", "event", "from", "to", "forced", "backfill",
    "jobs", "job", "kind", "mode", "received", "applied", "rejected", "total", "remaining", "rate_limit",
    "line", "error", "aliases", "seq", "data", "index", "embedding",
))
# fmt: on
"""What is compared of an answer. Times, progress, texts for people and whatever a later release adds are not."""
MAPS = frozenset(("metadata", "searched", "points_per_version", "filterable", "aliases", "evaluations", "seq"))
"""Fields whose value has keys of the user's, which are all compared."""
RENAMED = {"have": "collected", "staging": "buffered"}
"""Names of format-1 -> today's."""
TOLERANCE = 1e-5
"""How far scores may differ between machines that round differently, as a share of them or as such."""


def kept(value: Any, every_key: bool = False) -> Any:
    """What is compared of an answer, under today's names. A cursor is compared only by whether there is one."""
    if isinstance(value, dict):
        named = {RENAMED.get(key, key): each for key, each in value.items()}
        return {
            key: each is not None if key == "cursor" else kept(each, key in MAPS)
            for key, each in named.items()
            if every_key or (key in KEPT and not (key == "kind" and "retired" in named))
        }
    if isinstance(value, list):
        return [kept(each) for each in value if not _is_fit_job(each)]
    return RENAMED.get(value, value) if isinstance(value, str) else value


def _is_fit_job(value: Any) -> bool:
    """Format-1 listed no fits among the jobs, and no kinds of versions."""
    return isinstance(value, dict) and value.get("kind") == "fit"


def kept_lines(lines: list[str]) -> Any:
    """The same of an answer that is JSON line by line."""
    return kept([json.loads(line) for line in lines])


def differs(found: Any, expected: Any, exact: bool, where: str = "") -> str | None:
    """The first place where two answers differ, or None. Not exact: numbers may differ by TOLERANCE."""
    if isinstance(found, dict) and isinstance(expected, dict) and found.keys() == expected.keys():
        pairs = [(str(key), found[key], expected[key]) for key in expected]
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        pairs = [(str(place), *pair) for place, pair in enumerate(zip(found, expected, strict=True))]
    elif found == expected or (not exact and _close(found, expected, where)):
        return None
    else:
        return f"{where or 'the answer'}: expected {expected!r}, got {found!r}"
    return next((text for name, *pair in pairs if (text := differs(*pair, exact, f"{where}/{name}"))), None)


def _close(found: Any, expected: Any, where: str) -> bool:
    if where.endswith("/embedding"):
        rows = (np.frombuffer(base64.b64decode(text), "<f4") for text in (found, expected))
        return bool(np.allclose(*rows, atol=TOLERANCE))
    numbers = isinstance(found, float | int) and isinstance(expected, float | int)
    return numbers and math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
