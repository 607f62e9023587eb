"""What is asked of the golden collections, and what of an answer is kept."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import content
import httpx

Asked = dict[str, Any]
"""`method`, `path`, and perhaps `body` and `headers`."""
ENGLISH = {"must": [{"key": "lang", "match": {"value": "en"}}]}
FILTERS: list[dict[str, Any]] = [
    ENGLISH,
    {"must": [{"key": "lang", "match": {"any": ["de", "fr"]}}]},
    {"must": [{"key": "lang", "match": {"except": ["en"]}}]},
    {"must": [{"key": "year", "range": {"gte": 2030, "lt": 2060}}]},
    {"must": [{"key": "price", "range": {"gt": 2.5, "lte": 9.125}}]},
    {"must": [{"key": "open", "match": {"value": True}}]},
    {"must": [{"key": "tags", "match": {"value": "t1"}}], "must_not": [{"key": "tags", "match": {"value": "u3"}}]},
    {"must": [{"is_empty": {"key": "tags"}}]},
    {"should": [{"has_id": ["p008", "p001", "gone"]}, {"must": [ENGLISH, {"key": "year", "match": {"value": 2033}}]}]},
]
"""One of every operator and of every type."""
NEVER_COMPARED = ("took_ms", "rate_per_s", "eta_s", "at", "created_at", "finished_at", "bytes_in_memory", "shards")
"""What differs from run to run, or with the moment when a segment is sealed."""


def all_of(client: httpx.Client) -> Iterator[Asked]:
    """Everything, in the order in which it must be asked. Nothing that is asked changes anything."""
    yield get("/v1/aliases")
    yield get("/v1/jobs")
    yield from (get(f"/v1/jobs/{job['job']}/errors") for job in jobs(client) if job["kind"] == "ingest")
    for model in (content.OLD, content.NEW):
        body = {"input": content.TEXTS[:3], "model": model, "kind": "query"}
        yield post("/v1/embeddings", body | {"encoding_format": "base64"})
        yield post("/v1/embeddings", body | {"encoding_format": "code"})
    present = [name for name in content.EVERY if name in collections(client)]
    for name in present:
        yield get(f"/v1/collections/{name}")
        yield get(f"/v1/collections/{name}/versions")
        yield points(name, "scroll", limit=30, with_metadata=False)
        yield points(name, "get", ids=["p001", "p003", "p020", "p058", "gone"], with_code=True)
        yield from ABOUT[name](client)


def about_codes(_: httpx.Client) -> Iterator[Asked]:
    name, query = content.CODES, {"code_b64": content.code(1000), "limit": 5, "with_metadata": ["year"]}
    yield post(f"/v1/collections/{name}/points", content.IDEMPOTENT) | {"headers": {"idempotency-key": content.KEY}}
    for scorer in ("sdc", "hamming"):
        yield search(name, **query, scorer=scorer)
        yield search(content.ALIAS, id="p013", limit=3, scorer=scorer, with_code=True)
    yield search(name, **query, offset=5)
    yield search(name, **query, score_threshold=0.4)
    yield search(name, **query, group_by="lang", group_size=2)
    yield search(name, **query, group_by="tags")
    for condition in FILTERS:
        yield search(name, **query, filter=condition)
        yield points(name, "count", filter=condition)
    yield points(name, "scroll", limit=20, filter=ENGLISH)
    yield points(name, "get", ids=["p008", "p021", "p040", "p041", "p060", "once"])
    searches = [query, {"id": "p020", "limit": 3, "filter": ENGLISH}]
    yield post(f"/v1/collections/{name}/search/batch", {"searches": searches})


def about_texts(name: str) -> Iterator[Asked]:
    for text in content.TEXTS[:3]:
        yield search(name, text=text, limit=5, with_metadata=["n"])
    yield search(name, text=content.TEXTS[5], limit=4, filter={"must": [{"key": "n", "range": {"gte": 9}}]})
    yield search(name, vector_b64=content.b64(content.ROWS[0]), limit=5, with_metadata=False)
    yield search(name, vector=[round(float(value), 4) for value in content.ROWS[1]], limit=3, with_metadata=False)
    yield search(name, id="p009", limit=4, with_code=True)


def about_two_models(name: str, texts: int) -> Iterator[Asked]:
    """Codes of two models, asked by both."""
    for version in (content.OLD, content.NEW):
        for text in content.TEXTS[4 : 4 + texts]:
            yield search(name, text=text, limit=10, with_metadata=False, version=version)
        yield search(name, vector_b64=content.b64(content.ROWS[2]), limit=10, with_metadata=False, version=version)
    for point_id in ("p009", "p062"):
        yield search(name, id=point_id, limit=10, with_metadata=False)


def about_fitted(client: httpx.Client) -> Iterator[Asked]:
    """Points with own codes and points that wait, asked by vector, id and code."""
    name = content.FITTED
    for row in content.NARROW[200:203]:
        yield search(name, vector_b64=content.b64(row), limit=10, with_metadata=False)
    for point_id in ("p012", "p145", "p165"):
        yield search(name, id=point_id, limit=5, with_code=True)
    found = content.send(client, "POST", f"/v1/collections/{name}/points/get", {"ids": ["p012"], "with_code": True})
    yield search(name, code_b64=found["points"][0]["code_b64"], limit=5)


def about_ingested(_: httpx.Client) -> Iterator[Asked]:
    yield search(content.INGESTED, code_b64=content.code(5), limit=5)


def collections(client: httpx.Client) -> set[str]:
    return {each["name"] for each in content.send(client, "GET", "/v1/collections")["collections"]}


def jobs(client: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = content.send(client, "GET", "/v1/jobs")["jobs"]
    return found


def get(path: str) -> Asked:
    return {"method": "GET", "path": path}


def post(path: str, body: dict[str, Any]) -> Asked:
    return {"method": "POST", "path": path, "body": body}


def search(name: str, **body: Any) -> Asked:
    return post(f"/v1/collections/{name}/search", body)


def points(name: str, what: str, **body: Any) -> Asked:
    return post(f"/v1/collections/{name}/points/{what}", body)


def answer(client: httpx.Client, asked: Asked) -> Any:
    """All pages of a scroll as one list; lines as a list; else the JSON, less what differs from run to run."""
    found = client.request(asked["method"], asked["path"], json=asked.get("body"), headers=asked.get("headers"))
    assert found.is_success, (asked, found.text)
    if asked["path"].endswith("/errors"):
        return found.text.splitlines()
    return without(found.json())


def without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without(each) for key, each in value.items() if key not in NEVER_COMPARED}
    return [without(each) for each in value] if isinstance(value, list) else value


ABOUT: dict[str, Callable[[httpx.Client], Iterator[Asked]]] = {
    content.CODES: about_codes,
    content.INGESTED: about_ingested,
    content.WRITTEN: lambda _: chain(about_texts(content.WRITTEN), about_two_models(content.WRITTEN, texts=2)),
    content.COLLECTING: lambda _: about_texts(content.COLLECTING),
    content.FITTED: about_fitted,
    content.UPGRADED: lambda _: about_two_models(content.UPGRADED, texts=3),
    content.RETIRED: lambda _: about_texts(content.RETIRED),
}
