"""Damages one file of a data folder, and holds the service to a model: right, or an error; never silently wrong."""

import base64
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

CODE_BYTES = 16
POINTS = 150
COLLECTIONS = ("docs", "other")
Model = dict[str, dict[str, tuple[bytes, int]]]
"""Collection -> id -> (code, value of the metadata field 'n')."""
REPORTING = ("DamagedPoint", "DamagedCollection", "DamagedStore", "NotReady", "StoreUnavailable", "InternalError")
KINDS = ("flip", "cut", "zeros", "remove")


@dataclass
class Verdict:
    """What became of one damage."""

    wrong: list[str] = field(default_factory=list)
    """Answers that are not those of the model."""
    lost: list[str] = field(default_factory=list)
    """Points that are gone."""
    reported: list[str] = field(default_factory=list)
    """How the service says that something is damaged."""


async def fill(client: httpx.AsyncClient, rng: random.Random) -> Model:
    """Two collections, of which segments, growing rows, deletes and changed points are left."""
    model: Model = {}
    for name in COLLECTIONS:
        body = {"code": f"{CODE_BYTES * 8}x1", "shards": 2, "filterable": {"n": "integer", "tag": "keyword"}}
        (await client.put(f"/v1/collections/{name}", json=body)).raise_for_status()
        known = model[name] = {}
        for start in (*range(0, POINTS, 30), 0):
            ids = [f"p{number:03d}" for number in range(start, start + 30)]
            known |= {i: (rng.randbytes(CODE_BYTES), rng.randrange(10**6)) for i in ids}
            points = [_point(i, *known[i]) for i in ids]
            (await client.post(f"/v1/collections/{name}/points", json={"points": points})).raise_for_status()
        gone = rng.sample(sorted(known), 20)
        (await client.post(f"/v1/collections/{name}/points/delete", json={"ids": gone})).raise_for_status()
        for point_id in gone:
            del known[point_id]
    return model


def files(folder: Path) -> list[Path]:
    """Every file that may be damaged; what SQLite and the lock make anew at each start is not worth it."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
    return sorted(path for path in found if path.name != "lock" and not path.name.endswith("-shm"))


def damage(path: Path, kind: str, rng: random.Random) -> str:
    """Damage the file in place; what was done."""
    size = path.stat().st_size
    if kind == "remove":
        path.unlink()
        return f"{path.name} removed"
    at = rng.randrange(size)
    with path.open("r+b") as file:
        if kind == "cut":
            file.truncate(at)
        elif kind == "zeros":
            file.seek(at)
            file.write(bytes(min(512, size - at)))
        else:
            for place in (rng.randrange(size) for _ in range(3)):
                file.seek(place)
                byte = file.read(1)[0]
                file.seek(place)
                file.write(bytes([byte ^ 1 << rng.randrange(8)]))
    return f"{path.name} {kind} at {at} of {size}"


async def check(client: httpx.AsyncClient, model: Model) -> Verdict:
    """Ask for everything that the model knows."""
    verdict = Verdict()
    for name, known in model.items():
        described = (await client.get(f"/v1/collections/{name}")).json()
        if described.get("status") != "ready":
            verdict.reported.append(f"{name}: {described.get('damage') or described.get('detail')}")
            continue
        if described["damaged_points"]:
            verdict.reported.append(f"{name}: {described['damaged_points']} damaged points")
        await _check_points(client, name, known, verdict)
        await _check_reads(client, name, known, verdict)
    return verdict


async def _check_points(
    client: httpx.AsyncClient, name: str, known: dict[str, tuple[bytes, int]], verdict: Verdict
) -> None:
    pages = [sorted(known)]
    while pages:
        ids = pages.pop()
        answer = await client.post(f"/v1/collections/{name}/points/get", json={"ids": ids, "with_code": True})
        if answer.status_code != 200:
            _note_error(answer, verdict)
            if len(ids) > 1:
                pages += [ids[: len(ids) // 2], ids[len(ids) // 2 :]]
            continue
        found = {point["id"]: point for point in answer.json()["points"]}
        verdict.lost += [f"{name}/{i}" for i in ids if i not in found]
        for point_id, point in found.items():
            code, n = known[point_id]
            if point["metadata"]["n"] != n or base64.b64decode(point["code_b64"])[:CODE_BYTES] != code:
                verdict.wrong.append(f"{name}/{point_id} is read as {point}")


async def _check_reads(
    client: httpx.AsyncClient, name: str, known: dict[str, tuple[bytes, int]], verdict: Verdict
) -> None:
    answer = await client.post(f"/v1/collections/{name}/points/scroll", json={"limit": 1000, "with_metadata": False})
    if answer.status_code == 200:
        ids = [point["id"] for point in answer.json()["points"]]
        verdict.wrong += [f"{name}: a scroll shows {i}" for i in ids if i not in known]
        verdict.lost += [f"{name}/{i} (scroll)" for i in known if i not in ids]
    else:
        _note_error(answer, verdict)
    for point_id in sorted(known)[::13]:
        code, _ = known[point_id]
        query = {"code_b64": base64.b64encode(code).decode(), "limit": 5, "scorer": "hamming"}
        answer = await client.post(f"/v1/collections/{name}/search", json=query)
        if answer.status_code != 200:
            _note_error(answer, verdict)
            continue
        hits = answer.json()["hits"]
        for hit in hits:
            of_hit = known.get(hit["id"])
            if of_hit is None or hit["distance"] != _distance(of_hit[0], code) or hit["metadata"]["n"] != of_hit[1]:
                verdict.wrong.append(f"{name}: a search finds {hit}")
        if [hit["id"] for hit in hits] != _nearest(known, code):
            verdict.lost.append(f"{name}: a search finds {[hit['id'] for hit in hits]}")


def _nearest(known: dict[str, tuple[bytes, int]], code: bytes) -> list[str]:
    return sorted(known, key=lambda i: (_distance(known[i][0], code), i))[:5]


def _distance(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()


def _note_error(answer: httpx.Response, verdict: Verdict) -> None:
    problem: dict[str, Any] = json.loads(answer.content)
    if answer.status_code < 500 or problem["error"] not in REPORTING:
        verdict.wrong.append(f"{answer.status_code} {answer.text[:300]}")
    else:
        verdict.reported.append(f"{problem['error']}: {problem['detail']}")


def _point(point_id: str, code: bytes, n: int) -> dict[str, Any]:
    metadata = {"n": n, "tag": f"t{n % 7}", "text": "x" * (n % 400)}
    return {"id": point_id, "code_b64": base64.b64encode(code).decode(), "metadata": metadata}
