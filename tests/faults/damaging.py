"""Damages one file of a data folder, and holds the service to a model: right, or an error; never silently wrong."""

import asyncio
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
FINER, DIMS = "finer", 24
"""The collection whose points have rescore codes, and the dims of its vectors."""
ALIGNMENT = 64
"""Of the sections of a segment file."""
HEAL_SECONDS = 120.0
Points = dict[str, tuple[bytes, int]]
"""Id -> (code, value of the metadata field 'n')."""


@dataclass(frozen=True)
class Model:
    """What there is."""

    points: dict[str, Points]
    """By collection."""
    searches: list[tuple[dict[str, Any], list[dict[str, Any]]]]
    """Searches of FINER, scored by rescore codes, and their hits before anything was damaged."""


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
    """Three collections, of which segments, growing rows, deletes and changed points are left."""
    points: dict[str, Points] = {}
    for name in COLLECTIONS:
        body = {"code": f"{CODE_BYTES * 8}x1", "shards": 2, "filterable": {"n": "integer", "tag": "keyword"}}
        (await client.put(f"/v1/collections/{name}", json=body)).raise_for_status()
        known = points[name] = {}
        for start in (*range(0, POINTS, 30), 0):
            ids = [f"p{number:03d}" for number in range(start, start + 30)]
            known |= {i: (rng.randbytes(CODE_BYTES), rng.randrange(10**6)) for i in ids}
            batch = [_point(i, *known[i]) for i in ids]
            (await client.post(f"/v1/collections/{name}/points", json={"points": batch})).raise_for_status()
        gone = rng.sample(sorted(known), 20)
        (await client.post(f"/v1/collections/{name}/points/delete", json={"ids": gone})).raise_for_status()
        for point_id in gone:
            del known[point_id]
    points[FINER] = await _fill_finer(client, rng)
    return Model(points, [(body, await _hits(client, body)) for body in _searches(rng)])


async def _fill_finer(client: httpx.AsyncClient, rng: random.Random) -> Points:
    """Points with a fit of rescore codes, which is done."""
    path = f"/v1/collections/{FINER}"
    fit = {"bytes": 8, "rescore_bytes": 24, "sample": 130, "dims": DIMS}
    (await client.put(path, json={"fit": fit, "shards": 2, "filterable": {"n": "integer"}})).raise_for_status()
    numbers = {f"p{number:03d}": rng.randrange(10**6) for number in range(POINTS)}
    batch = [{"id": i, "vector": _vector(rng), "metadata": {"n": n}} for i, n in numbers.items()]
    (await client.post(f"{path}/points", json={"points": batch})).raise_for_status()
    async with asyncio.timeout(HEAL_SECONDS):
        while (await client.get(path)).json()["fit"]["state"] != "done":
            await asyncio.sleep(0.02)
    wanted = {"ids": list(numbers), "with_code": True}
    found = (await client.post(f"{path}/points/get", json=wanted)).json()["points"]
    return {point["id"]: (base64.b64decode(point["code_b64"])[:CODE_BYTES], numbers[point["id"]]) for point in found}


def _searches(rng: random.Random) -> list[dict[str, Any]]:
    some = {"must": [{"key": "n", "range": {"gte": 300_000}}]}
    kinds: tuple[dict[str, Any], ...] = ({}, {"filter": some}, {"offset": 3}, {"rescore": {"candidates": POINTS}})
    return [{"vector": _vector(rng), "limit": 5, "rescore": {"candidates": 20}} | kind for kind in kinds * 2]


async def _hits(client: httpx.AsyncClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await client.post(f"/v1/collections/{FINER}/search", json=body)
    answer.raise_for_status()
    hits: list[dict[str, Any]] = answer.json()["hits"]
    return hits


def _vector(rng: random.Random) -> list[float]:
    return [round(rng.gauss(0, 1), 3) for _ in range(DIMS)]


def damage_any(paths: list[Path], kind: str, rng: random.Random) -> str:
    """Damage one of the files in place; of one with rescore codes half of the time those. What was done."""
    path = rng.choice(paths)
    of_codes = rescore_section(path) if path.suffix == ".seg" and rng.random() < 0.5 else None
    return damage(path, kind, rng, of_codes)


def rescore_section(path: Path) -> range | None:
    """Where the rescore codes of a segment file lie; None: it has none."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(12)[8:], "little")
        file.seek(16)
        entry = json.loads(file.read(length))["sections"].get("rescore")
    if entry is None:
        return None
    start = -(-(16 + length) // ALIGNMENT) * ALIGNMENT + entry["offset"]
    return range(start, start + entry["size"])


def files(folder: Path) -> list[Path]:
    """Every file that may be damaged; what SQLite and the lock make anew at each start is not worth it."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
    return sorted(path for path in found if path.name != "lock" and not path.name.endswith("-shm"))


def damage(path: Path, kind: str, rng: random.Random, within: range | None = None) -> str:
    """Damage the file in place; what was done. within: the bytes that may be changed, None: all."""
    size = path.stat().st_size
    if kind == "remove":
        path.unlink()
        return f"{path.name} removed"
    places = within or range(size)
    at = rng.choice(places)
    with path.open("r+b") as file:
        if kind == "cut":
            file.truncate(at)
        elif kind == "zeros":
            file.seek(at)
            file.write(bytes(min(512, size - at)))
        else:
            for place in (rng.choice(places) for _ in range(3)):
                file.seek(place)
                byte = file.read(1)[0]
                file.seek(place)
                file.write(bytes([byte ^ 1 << rng.randrange(8)]))
    return f"{path.name} {kind} at {at} of {size}"


async def check(client: httpx.AsyncClient, model: Model) -> Verdict:
    """Ask for everything that the model knows."""
    verdict = Verdict()
    for name, known in model.points.items():
        described = (await client.get(f"/v1/collections/{name}")).json()
        if described.get("status") != "ready":
            verdict.reported.append(f"{name}: {described.get('damage') or described.get('detail')}")
            continue
        if described["damaged_points"]:
            verdict.reported.append(f"{name}: {described['damaged_points']} damaged points")
        await _check_points(client, name, known, verdict)
        await _check_scroll(client, name, known, verdict)
        if name == FINER:
            await check_searches(client, model, verdict)
        else:
            await _check_reads(client, name, known, verdict)
    return verdict


async def check_searches(client: httpx.AsyncClient, model: Model, verdict: Verdict) -> None:
    """The searches of FINER: right, or refused for a while; the service heals, or says why it cannot."""
    for body, hits in model.searches:
        async with asyncio.timeout(HEAL_SECONDS):
            while True:
                answer = await client.post(f"/v1/collections/{FINER}/search", json=body)
                if answer.status_code == 200 or answer.json()["error"] != "NotReady":
                    break
                _note_error(answer, verdict)
                await asyncio.sleep(0.02)
        if answer.status_code != 200:
            _note_error(answer, verdict)
        elif (found := answer.json()["hits"]) != hits:
            right = {hit["id"]: hit for hit in hits}
            wrong = [hit for hit in found if hit["id"] in right and hit != right[hit["id"]]]
            verdict.wrong += [f"{FINER}: a search finds {hit}" for hit in wrong]
            verdict.lost.append(f"{FINER}: a search finds {[hit['id'] for hit in found]}")


async def _check_points(client: httpx.AsyncClient, name: str, known: Points, verdict: Verdict) -> None:
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


async def _check_scroll(client: httpx.AsyncClient, name: str, known: Points, verdict: Verdict) -> None:
    answer = await client.post(f"/v1/collections/{name}/points/scroll", json={"limit": 1000, "with_metadata": False})
    if answer.status_code == 200:
        ids = [point["id"] for point in answer.json()["points"]]
        verdict.wrong += [f"{name}: a scroll shows {i}" for i in ids if i not in known]
        verdict.lost += [f"{name}/{i} (scroll)" for i in known if i not in ids]
    else:
        _note_error(answer, verdict)


async def _check_reads(client: httpx.AsyncClient, name: str, known: Points, verdict: Verdict) -> None:
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


def _nearest(known: Points, code: bytes) -> list[str]:
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
