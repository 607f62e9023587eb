"""The real app on SQLite in a temporary folder, and the data that the tests write into it."""

import base64
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from tests.engine.running import PATIENT
from tests.server.contract import Contract
from tests.waiting import PATIENCE_SECONDS, until

from bebr.bootstrap import build_app
from bebr.config import Settings

CODE = "24x2"
CODE_BYTES = 6
DOCS = "/v1/collections/docs"
FIELDS = {"lang": "keyword", "year": "integer"}


def settings(folder: Path, **changes: Any) -> Settings:
    """Small and fast: few rows in memory, no regard for the disk of the machine that runs the tests."""
    few = {
        "head_rows": 64,
        "min_free_disk_bytes": 0,
        "search_threads": 1,
        "encoder_threads": 1,
        "fit_rest_seconds": 0.05,
    }
    few |= PATIENT
    return Settings(**({"data_dir": folder / "data", "bundles_dir": folder / "bundles"} | few | changes))


@asynccontextmanager
async def serving(folder: Path, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a ready service."""
    app = build_app(settings(folder, **changes))
    async with running(app) as client:
        yield client


@cache
def contract() -> Contract:
    """What every service promises."""
    return Contract(build_app(settings(Path("unused"))).openapi())


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a ready app. It holds every answer to the OpenAPI document."""
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://bebr", timeout=PATIENCE_SECONDS) as client,
    ):

        async def is_ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await until(is_ready, "/readyz")
        client.event_hooks["response"] = [contract().check]
        yield client


async def create(client: httpx.AsyncClient, path: str = DOCS, **changes: Any) -> None:
    """A collection of codes."""
    answer = await client.put(path, json={"code": CODE, "filterable": FIELDS} | changes)
    assert answer.status_code == 200, answer.text


async def ended(client: httpx.AsyncClient, job: str) -> dict[str, Any]:
    """The job, once it has come to its end."""

    async def its_end() -> Any:
        state = (await client.get(f"/v1/jobs/{job}")).json()
        return None if state["state"] in ("queued", "running") else state

    found: dict[str, Any] = await until(its_end, f"the end of job {job}")
    return found


def code(number: int) -> str:
    """The code of a point, as base64."""
    return base64.b64encode(np.random.default_rng(number).bytes(CODE_BYTES)).decode()


def point(number: int, **metadata: Any) -> dict[str, Any]:
    return {
        "id": f"p{number:03}",
        "code_b64": code(number),
        "metadata": {"lang": ("en", "de")[number % 2], "year": 2000 + number} | metadata,
    }


def points(count: int) -> list[dict[str, Any]]:
    return [point(number) for number in range(count)]


async def fill(client: httpx.AsyncClient, count: int = 20, path: str = DOCS) -> None:
    answer = await client.post(f"{path}/points", json={"points": points(count)})
    assert answer.json()["applied"] == count, answer.text


def vector_b64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def assert_problem(answer: httpx.Response, status: int, error: str, key: str | None = None) -> dict[str, Any]:
    """The answer is a problem document of this error; `key` is the field at fault."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]
    problem: dict[str, Any] = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "error", "fields"}
    assert (problem["error"], problem["status"], problem["type"]) == (error, status, f"/docs#{error}")
    if key is not None:
        assert problem["fields"].get("key") == key, problem
    return problem
