"""What stands in the golden collections, sent over HTTP."""

import base64
import json
import time
from collections.abc import Callable, Sequence
from gzip import compress
from typing import Any

import httpx
import numpy as np
from tests.engine.two_models import texts
from tests.fit.embeddings import text_like

OLD, NEW = "old@1", "new@1"
FIELDS = {"lang": "keyword", "year": "integer", "price": "float", "open": "bool", "tags": "keyword[]"}
CODE, CODE_BYTES = "24x2", 6
ROWS = text_like(100, dims=32)
"""Embeddings for the models, which have as many dims."""
FEW_DIMS = 16
NARROW = text_like(300, dims=FEW_DIMS)
"""Embeddings of one's own, of fewer dims, so that a binarizer for them is small."""
TEXTS = texts(300)
CODES, INGESTED, WRITTEN, COLLECTING, FITTED = "codes", "ingested", "texts", "collecting", "fitted"
UPGRADED, RETIRED, ALIAS = "upgraded", "retired", "prod"
FEW = (CODES, INGESTED)
EVERY = (*FEW, WRITTEN, COLLECTING, FITTED, UPGRADED, RETIRED)
IDEMPOTENT = {"points": [{"id": "once", "code_b64": base64.b64encode(bytes(range(6))).decode()}]}
"""Written once under the key `KEY`; sent again, it must change nothing."""
KEY = "golden-key"
PATIENCE_SECONDS = 60


def fill(client: httpx.Client, names: Sequence[str]) -> None:
    """Make these collections."""
    for name in names:
        FILL[name](client)


def fill_codes(client: httpx.Client) -> None:
    """Codes of one's own in two shards: fields of every type, sealed segments, tombstones, an alias, a receipt."""
    create(client, CODES, code=CODE, shards=2, filterable=FIELDS)
    for start in range(0, 120, 40):
        put(client, CODES, [coded(n) for n in range(start, start + 40)])
    put(client, CODES, [coded(n, title="overwritten") for n in range(20, 25)])
    remove(client, CODES, ids=[f"p{n:03}" for n in range(0, 30, 3)])
    remove(client, CODES, filter={"must": [{"key": "year", "range": {"gte": 2112}}]})
    change = {"ids": ["p040", "p041"], "set": {"lang": "fr", "note": "größer ∑", "price": None}}
    send(client, "POST", f"/v1/collections/{CODES}/points/metadata", change)
    send(client, "POST", f"/v1/collections/{CODES}/points", IDEMPOTENT, {"idempotency-key": KEY})
    send(client, "POST", "/v1/aliases", {"actions": [{"create": {"alias": ALIAS, "collection": CODES}}]})


def fill_texts(client: httpx.Client) -> None:
    """Points from texts and from vectors, and a second model, never measured, so that the bundle's own scales count."""
    create(client, WRITTEN, bundle=OLD, shards=1, text_field="text", filterable={"n": "integer", "kind": "keyword"})
    put(client, WRITTEN, [texted(n, kind="text") for n in range(40)])
    put(client, WRITTEN, [vectored(n, kind="vector") for n in range(40, 60)])
    remove(client, WRITTEN, ids=["p003", "p050"])
    attach(client, WRITTEN)
    promote(client, WRITTEN)
    put(client, WRITTEN, [texted(n, kind="text") for n in range(56, 66)])


def fill_collecting(client: httpx.Client) -> None:
    """It waits for its fit, with texts of a bundle's model."""
    fit = {"bytes": 4, "sample": 300}
    create(client, COLLECTING, bundle=OLD, shards=1, fit=fit, filterable={"n": "integer"})
    put(client, COLLECTING, [texted(n) for n in range(130)])
    remove(client, COLLECTING, ids=["p007"])


def fill_fitted(client: httpx.Client) -> None:
    """It has a binarizer of its own, and gathers embeddings for another."""
    fit = {"bytes": 4, "sample": 150, "dims": FEW_DIMS}
    create(client, FITTED, fit=fit, shards=2, filterable={"n": "integer"})
    put(client, FITTED, [narrow(n) for n in range(150)])
    until(lambda: described(client, FITTED)["fit"]["state"] == "done")
    remove(client, FITTED, ids=["p011"])
    send(client, "POST", f"/v1/collections/{FITTED}/fit", {"bytes": 4, "sample": 300})
    put(client, FITTED, [narrow(n) for n in range(140, 170)])


def fill_upgraded(client: httpx.Client) -> None:
    """It has codes of two models, measured and promoted, and a backfill that was paused."""
    create(client, UPGRADED, bundle=OLD, shards=2, text_field="text", filterable={"n": "integer"})
    put(client, UPGRADED, [texted(n) for n in range(264)])
    attach(client, UPGRADED)
    measure = {"version": NEW, "sample": 40, "points": 264}
    send(client, "POST", f"/v1/collections/{UPGRADED}/versions/evaluate", measure)
    promote(client, UPGRADED, way="adapter")  # not the default of the bundle
    put(client, UPGRADED, [texted(n) for n in range(260, 275)])
    job = send(client, "POST", f"/v1/collections/{UPGRADED}/versions/backfill", {"rate_limit": 400})["job"]
    until(lambda: send(client, "GET", f"/v1/jobs/{job}")["applied"] >= 16)
    assert send(client, "POST", f"/v1/jobs/{job}/pause")["state"] == "paused"
    remove(client, UPGRADED, ids=["p002", "p100", "p200", "p270"])


def fill_retired(client: httpx.Client) -> None:
    """It is through with its upgrade, and the version before is retired."""
    create(client, RETIRED, bundle=OLD, shards=1, text_field="text", filterable={"n": "integer"})
    put(client, RETIRED, [texted(n) for n in range(12)])
    attach(client, RETIRED)
    promote(client, RETIRED)
    job = send(client, "POST", f"/v1/collections/{RETIRED}/versions/backfill", {"rate_limit": 10_000})["job"]
    until(lambda: send(client, "GET", f"/v1/jobs/{job}")["state"] == "succeeded")
    send(client, "DELETE", f"/v1/collections/{RETIRED}/versions/{OLD}")


def fill_ingested(client: httpx.Client) -> None:
    create(client, INGESTED, code=CODE, shards=1, filterable={"year": "integer"})
    good = [coded(n) for n in range(12)]
    ingest(client, [*good, {"id": "bad"}, {"id": "short", "code_b64": "AAAA"}, 7])
    wait_for_jobs(client)


def interrupt(client: httpx.Client, count: int, gzip: bool) -> None:
    """Returns while a job is under way that only inserts, so that a line written twice would be counted as refused."""
    lines: list[Any] = [{"id": f"i{n:03}", "code_b64": code(n), "metadata": {"year": n}} for n in range(count)]
    lines.insert(count // 2, {"id": "bad"})
    job = ingest(client, lines, gzip, mode="insert_only")
    until(lambda: send(client, "GET", f"/v1/jobs/{job}")["applied"] > 0)
    assert send(client, "GET", f"/v1/jobs/{job}")["state"] == "running"


def change(client: httpx.Client, names: Sequence[str]) -> None:
    """A few writes to each, too few to be sealed: what a killed service leaves to the log of its store."""
    late = {
        CODES: [coded(n, title="late") for n in range(110, 114)],
        WRITTEN: [texted(n, kind="late") for n in range(64, 70)],
        COLLECTING: [texted(n) for n in range(128, 134)],
        FITTED: [narrow(n) for n in range(168, 174)],
        UPGRADED: [texted(n) for n in range(272, 278)],
        RETIRED: [texted(n) for n in range(11, 14)],
    }
    for name in late.keys() & set(names):
        put(client, name, late[name])
        remove(client, name, ids=["p010", late[name][0]["id"]])


def coded(n: int, **metadata: Any) -> dict[str, Any]:
    """A point of codes; some have not every field, and p008 says nothing at all."""
    if n == 8:
        return {"id": "p008", "code_b64": code(n)}
    fields = {
        "lang": ("en", "de", None)[n % 3],
        "year": 2000 + n,
        "price": n / 8,
        "open": n % 5 == 0,
        "tags": [f"t{n % 4}", f"u{n % 7}"] if n % 6 else [],
        "title": f"title {n}",
    }
    if n % 9 == 0:
        del fields["price"], fields["tags"]
    return {"id": f"p{n:03}", "code_b64": code(n), "metadata": fields | metadata}


def texted(n: int, **metadata: Any) -> dict[str, Any]:
    return {"id": f"p{n:03}", "text": TEXTS[n], "metadata": {"n": n} | metadata}


def vectored(n: int, **metadata: Any) -> dict[str, Any]:
    return {"id": f"p{n:03}", "vector_b64": b64(ROWS[n]), "metadata": {"n": n} | metadata}


def narrow(n: int) -> dict[str, Any]:
    return {"id": f"p{n:03}", "vector_b64": b64(NARROW[n]), "metadata": {"n": n}}


def code(n: int) -> str:
    return base64.b64encode(np.random.default_rng(n).bytes(CODE_BYTES)).decode()


def b64(row: np.ndarray) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()


def create(client: httpx.Client, name: str, **body: Any) -> None:
    send(client, "PUT", f"/v1/collections/{name}", body)


def described(client: httpx.Client, name: str) -> dict[str, Any]:
    return send(client, "GET", f"/v1/collections/{name}")


def put(client: httpx.Client, name: str, points: list[dict[str, Any]]) -> None:
    report = send(client, "POST", f"/v1/collections/{name}/points", {"points": points})
    assert report["applied"] == len(points), report


def remove(client: httpx.Client, name: str, **body: Any) -> None:
    assert send(client, "POST", f"/v1/collections/{name}/points/delete", body)["deleted"] > 0


def attach(client: httpx.Client, name: str) -> None:
    send(client, "POST", f"/v1/collections/{name}/versions", {"bundle": NEW})


def promote(client: httpx.Client, name: str, **body: Any) -> None:
    body |= {"version": NEW, "force": True}
    send(client, "POST", f"/v1/collections/{name}/versions/promote", body)


def ingest(client: httpx.Client, lines: list[Any], gzip: bool = False, **query: str) -> str:
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    headers = {"content-type": "application/x-ndjson"} | ({"content-encoding": "gzip"} if gzip else {})
    body = compress(body, mtime=0) if gzip else body
    answer = client.post(f"/v1/collections/{INGESTED}/ingest", content=body, headers=headers, params=query)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job"])


def wait_for_jobs(client: httpx.Client) -> None:
    """Until every bulk ingestion has come to its end."""

    def quiet() -> bool:
        jobs = send(client, "GET", "/v1/jobs")["jobs"]
        return all(job["state"] not in ("queued", "running") for job in jobs)

    until(quiet)


def send(client: httpx.Client, method: str, path: str, body: Any = None, headers: Any = None) -> Any:
    """Again where the service says that it is busy: segments are tiny here, and sealing has to keep up."""
    while (answer := client.request(method, path, json=body, headers=headers)).status_code == 429:
        time.sleep(0.05)
    assert answer.is_success, (method, path, answer.text)
    return answer.json()


def until(holds: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


FILL: dict[str, Callable[[httpx.Client], None]] = {
    CODES: fill_codes,
    INGESTED: fill_ingested,
    WRITTEN: fill_texts,
    COLLECTING: fill_collecting,
    FITTED: fill_fitted,
    UPGRADED: fill_upgraded,
    RETIRED: fill_retired,
}
