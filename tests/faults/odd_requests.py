"""Odd requests, made from the OpenAPI document: near enough to valid ones that they get past the first check.

Everything comes from one random generator, so a seed and a number name a request.
"""

import base64
import gzip
import json
import random
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import numpy as np
from tests.core.odd_filters import random_filter, random_metadata
from tests.faults.odd_values import (
    CODE_BYTES,
    CONTENT_TYPES,
    DIMS,
    IDS,
    ODD,
    ODD_HEADERS,
    ODD_SEGMENTS,
    RAW,
    RAWS,
)

JSON, NDJSON, BINARY = "application/json", "application/x-ndjson", "application/octet-stream"


@dataclass(frozen=True)
class OddRequest:
    method: str
    path: str
    """Percent-encoded."""
    query: str = ""
    content_type: bytes = JSON.encode()
    headers: tuple[tuple[bytes, bytes], ...] = ()
    chunks: tuple[bytes, ...] = (b"",)
    hangs_up: bool = False
    """Instead of sending the last chunk."""
    route: str = ""
    """As the document names it."""

    def __str__(self) -> str:
        body = b"".join(self.chunks)
        more = f" +{len(body) - 300}" if len(body) > 300 else ""
        sent = f"{self.method} {self.path[:200]}?{self.query[:100]} {self.content_type!r} {self.headers!r:.200}"
        return f"{sent} {body[:300]!r}{more}"


@dataclass
class Seen:
    """What answers named, for later requests to name."""

    jobs: list[str] = field(default_factory=lambda: ["absent"])
    cursors: list[str] = field(default_factory=lambda: ["absent"])
    versions: list[str] = field(default_factory=lambda: ["24x2", "absent@1"])

    def learn(self, answer: Any) -> None:
        if not isinstance(answer, dict):
            return
        for key, kept in (("job", self.jobs), ("cursor", self.cursors), ("active_version", self.versions)):
            if isinstance(value := answer.get(key), str) and value not in kept:
                kept.append(value)
                del kept[1:-30]


class OddRequests:
    """Makes one request after the other."""

    def __init__(
        self, document: Mapping[str, Any], seed: int, collections: list[str], keys: Sequence[bytes] = ()
    ) -> None:
        """keys: API keys that requests come with; of none: without any."""
        self._keys = keys
        self.random, self.numpy = random.Random(seed), np.random.default_rng(seed)
        self.seen = Seen()
        self._schemas = document["components"]["schemas"]
        self._operations = [
            (path, method.upper(), operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]
        heavy = (
            "search",
            "points",
            "count",
            "scroll",
            "delete",
            "get",
            "vectors",
            "ingest",
            "embeddings",
            "metadata",
            "batch",
        )
        self._weights = [4 if path.rsplit("/", 1)[-1] in heavy else 1 for path, _, _ in self._operations]
        self._collections = collections
        self._raws: list[str] = []
        pick = self.random.choice
        self._made: dict[str, Callable[[], Any]] = {
            "id": self._id,
            "ids": self._ids,
            "has_id": self._ids,
            "metadata": self._metadata,
            "set": self._metadata,
            "filter": self._filter,
            "text": self._text,
            "input": self._text,
            "collection": self._collection,
            "vector": lambda: self.numpy.normal(size=DIMS).tolist(),
            "vector_b64": lambda: self._base64(DIMS * 4),
            "code_b64": lambda: self._base64(CODE_BYTES),
            "cursor": lambda: pick(self.seen.cursors),
            "version": lambda: pick(self.seen.versions),
            "bundle": lambda: pick(["tiny@1", "tiny", "absent@1"]),
            "model": lambda: "tiny@1",
            "alias": lambda: pick(["prod", "codes", "x"]),
            "group_by": lambda: pick(["word", "words", "whole", "real", "flag", "absent"]),
            "filterable": lambda: {pick(["word", "a.b", ""]): pick(["keyword", "float", "keyword[]"])},
            "sample": lambda: pick([150, 300, 1]),
            "rescore": lambda: pick([True, False, {"candidates": pick([1, 10, 500, 10**6])}]),
            "rescore_bytes": lambda: pick([0, 1, 24, 25]),
            "from": lambda: pick(["writes", "sample", "codes", "absent"]),
            "limit": lambda: pick([1, 3, 10, 100, 10_000]),
            "shards": lambda: pick([1, 2, 3]),
            "points": lambda: [self._point() for _ in range(pick([1, 3, 20]))],
            "queries": lambda: [{"text": self._text()}],
            "bytes": lambda: 8,
            "dims": lambda: pick([DIMS, 8]),
        }

    def next(self) -> OddRequest:
        path, method, operation = self.random.choices(self._operations, self._weights)[0]
        made = self._with_body(OddRequest(method, self._fill_path(path), route=f"{method} {path}"), path, operation)
        if self.random.random() < 0.3:
            given = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"] or ["a"]
            values = ["upsert", "insert_only", *self.seen.versions, "", "%00", "a" * 500, "1"]
            made = replace(made, query=f"{self.random.choice(given)}={quote(self.random.choice(values), safe='%')}")
        if self.random.random() < 0.1:
            made = replace(
                made, headers=(*made.headers, *self.random.sample(ODD_HEADERS, self.random.choice([1, 1, 3])))
            )
        if self.random.random() < 0.03:
            made = replace(made, content_type=self.random.choice(CONTENT_TYPES))
        if self.random.random() < 0.02:
            made = replace(
                made,
                method=self.random.choice(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "get", "X"]),
            )
        if self._keys and self.random.random() < 0.98:
            key = self.random.choice(self._keys)
            name, value = self.random.choice([(b"api-key", key), (b"authorization", b"Bearer " + key)])
            made = replace(made, headers=(*made.headers, (name, value)))
        return replace(made, chunks=self._cut(made.chunks[0]), hangs_up=self.random.random() < 0.01)

    # -- paths ---------------------------------------------------------------------------------------------------------

    def _fill_path(self, path: str) -> str:
        values = {"collection": self._collection(), "id": self._id(), "job": self.random.choice(self.seen.jobs)}
        values |= {
            "version": self.random.choice(self.seen.versions),
            "model": self.random.choice(["tiny", "tiny@1", "x"]),
        }
        for name, value in values.items():
            odd = self.random.random() < 0.03
            path = path.replace(f"{{{name}}}", self.random.choice(ODD_SEGMENTS) if odd else quote(value, safe=""))
        return path + self.random.choice(["/", "%0A", "//", "/x"]) if self.random.random() < 0.01 else path

    def _collection(self) -> str:
        return self.random.choice(self._collections)

    # -- bodies --------------------------------------------------------------------------------------------------------

    def _with_body(self, made: OddRequest, path: str, operation: Mapping[str, Any]) -> OddRequest:
        content = operation.get("requestBody", {}).get("content", {})
        if not content:
            return made
        kind = self.random.choice(list(content))
        self._raws = []
        if kind == BINARY:
            body = self._frame()
        elif kind == NDJSON:
            lines = [self._write(self._odd(self._point())) for _ in range(self.random.choice([1, 5, 40]))]
            body = self.random.choice([b"\n", b"\n", b"\r\n", b"\n\n", b"\r"]).join(lines)
        else:
            body = self._write(self._odd(self._value(content[kind]["schema"], "", 0)))
        made = replace(made, content_type=kind.encode())
        return self._packed(made, self._damaged(body))

    def _value(self, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        """A valid value, or nearly so."""
        if name in self._made and self.random.random() < 0.95:
            return self._made[name]()
        if "$ref" in schema:
            return self._value(self._schemas[schema["$ref"].rsplit("/", 1)[-1]], name, depth)
        if (examples := schema.get("examples")) and self.random.random() < 0.3:
            return deepcopy(self.random.choice(examples))
        if depth > 6:
            return None
        if "properties" in schema:
            return self._object(schema, depth)
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return self._value(self.random.choice(schema[choice]), name, depth + 1)
        if "enum" in schema or "const" in schema:
            return self.random.choice(schema.get("enum", [schema.get("const")]))
        match schema.get("type"):
            case "array":
                return [
                    self._value(schema.get("items", {}), "", depth + 1) for _ in range(self.random.choice([0, 1, 3]))
                ]
            case "object":
                return {}
            case "integer":
                return self.random.choice([schema.get("minimum", 0), 1, 10, 1000])
            case "number":
                return self.random.choice([0, 0.5, -1.0, 1e9])
            case "boolean":
                return self.random.random() < 0.5
            case "string":
                return self.random.choice(["a", self._text(), ""])
        return None

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties, needed = schema["properties"], set(schema.get("required", ()))
        alternatives = [one["required"] for one in schema.get("oneOf", schema.get("anyOf", ())) if "required" in one]
        either = {name for names in alternatives for name in names}
        if either:
            needed |= set(self.random.choice(alternatives))
        optional = [name for name in properties if name not in needed | either and self.random.random() < 0.25]
        names = [name for name in properties if name in needed] + optional
        return {name: self._value(properties[name], name, depth + 1) for name in names}

    def _point(self) -> dict[str, Any]:
        source = self.random.choice(["code_b64", "code_b64", "vector_b64", "vector", "text"])
        return {"id": self._id(), source: self._made[source](), "metadata": self._metadata()}

    def _frame(self) -> bytes:
        count, dims = self.random.choice([0, 1, 10]), self.random.choice([DIMS, DIMS, 3])
        header = {"dims": dims, "count": count, "ids": [self._id() for _ in range(count)], "metadata": None}
        if self.random.random() < 0.5:
            header["metadata"] = [self._metadata() for _ in range(count)]
        text = self._write(self._odd(header))
        size = len(text) if self.random.random() < 0.9 else self.random.choice([0, 1, 2**31, 2**63, 2**64 - 1])
        return size.to_bytes(8, "little") + text + self.numpy.normal(size=(count, dims)).astype("<f4").tobytes()

    def _id(self) -> str:
        return self.random.choice(IDS)

    def _ids(self) -> list[str]:
        return [self._id() for _ in range(self.random.choice([0, 1, 5, 50]))]

    def _text(self) -> str:
        return self.random.choice(["a quick fox", "parse a date", "", "x" * 2000, "日本 é 😀", "\0"])

    def _base64(self, size: int) -> str:
        size = size if self.random.random() < 0.95 else self.random.choice([0, 1, size + 2])
        return base64.b64encode(self.numpy.bytes(size)).decode()

    def _metadata(self) -> dict[str, Any]:
        return random_metadata(self.numpy) if self.random.random() < 0.9 else {"a": {"b": [1, None]}, "word": 7}

    def _filter(self) -> dict[str, Any]:
        return random_filter(self.numpy, IDS)

    # -- damage --------------------------------------------------------------------------------------------------------

    def _odd(self, value: Any) -> Any:
        """The value with up to three places changed."""
        for _ in range(self.random.choice([0, 0, 0, 1, 1, 2, 3])):
            value = self._changed(value)
        return value

    def _changed(self, value: Any) -> Any:
        """One place, somewhere inside, is another."""
        if isinstance(value, dict) and value and self.random.random() < 0.8:
            key = self.random.choice(list(value))
            match self.random.randrange(8):
                case 0:
                    return {name: item for name, item in value.items() if name != key}
                case 1:
                    return value | {self.random.choice(["unknown", "", "x" * 500, "Id", "\0"]): self._odd_value()}
                case _:
                    return value | {key: self._changed(value[key])}
        if isinstance(value, list) and value and self.random.random() < 0.8:
            place = self.random.randrange(len(value))
            if self.random.random() < 0.1:
                return value * self.random.choice([2, 30])
            return [*value[:place], self._changed(value[place]), *value[place + 1 :]]
        return self._odd_value()

    def _odd_value(self) -> Any:
        if self.random.random() < 0.2:
            self._raws.append(self.random.choice(RAWS))
            return RAW.format(len(self._raws) - 1)
        return self.random.choice(ODD)

    def _write(self, value: Any) -> bytes:
        text = json.dumps(value, ensure_ascii=self.random.random() < 0.3)
        for number, raw in enumerate(self._raws):
            text = text.replace(f'"{RAW.format(number)}"', raw)
        return text.encode("utf-8", "surrogatepass")

    def _damaged(self, body: bytes) -> bytes:
        if self.random.random() > 0.1 or not body:
            return body
        place = self.random.randrange(len(body))
        match self.random.randrange(8):
            case 0:
                return body[:place]
            case 1:
                return body[:place] + self.numpy.bytes(1) + body[place + 1 :]
            case 2:
                return (
                    body[:place] + self.random.choice([b"\xff", b"\0", b"\xed\xa0\x80", b"\n", b"\x80"]) + body[place:]
                )
            case 3:
                return b"\xef\xbb\xbf" + body
            case 4:
                return body.decode("utf-8", "replace").encode("utf-16")
            case 5:
                return body + body
            case 6:
                return b" " * self.random.choice([1, 100_000]) + body
        return b""

    def _packed(self, made: OddRequest, body: bytes) -> OddRequest:
        if self.random.random() > 0.08:
            return replace(made, chunks=(body,))
        zipped = gzip.compress(body, 1)
        header = ((b"content-encoding", self.random.choice([b"gzip", b"gzip", b"GZIP", b"x-gzip"])),)
        match self.random.randrange(6):
            case 0:
                return replace(made, chunks=(zipped[: self.random.randrange(len(zipped))],), headers=header)
            case 1:
                return replace(made, chunks=(body,), headers=header)
            case 2:
                return replace(made, chunks=(zipped,))
            case 3:
                return replace(made, chunks=(zipped + zipped,), headers=header)
        return replace(made, chunks=(zipped,), headers=header)

    def _cut(self, body: bytes) -> tuple[bytes, ...]:
        if len(body) < 2 or self.random.random() > 0.1:
            return (body,)
        places = sorted(self.random.sample(range(1, len(body)), min(len(body) - 1, self.random.choice([1, 3, 20]))))
        return tuple(body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True))
