"""One line per request, with what an operator asks for and nothing that is secret."""

import logging
from pathlib import Path
from typing import Any

import pytest
from tests.server.service import DOCS, serving

KEYS = {"api_keys": ("full-key",), "read_only_api_keys": ("read-key",)}


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.getMessage() == "request"]  # type: ignore[attr-defined]


async def test_a_request_has_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(tmp_path, **KEYS) as client:
        with caplog.at_level(logging.INFO, "bebr.requests"):
            headers = {"api-key": "full-key", "x-request-id": "mine"}
            made = await client.put(DOCS, json={"code": "24x2"}, headers=headers)
            await client.get("/livez")
            refused = await client.delete(DOCS, headers={"api-key": "read-key"})
            await client.get(DOCS)
            await client.get("/v1/nope/%0Ax", headers=headers)
    first, forbidden, unauthorized, lost = lines(caplog)
    assert first | {"ms": 0} == {
        "method": "PUT",
        "route": "/v1/collections/{collection}",
        "collection": "docs",
        "status": 200,
        "ms": 0,
        "bytes": len(made.content),
        "request": "mine",
        "key": first["key"],
    }
    assert len(first["key"]) == 8 and forbidden["key"] not in ("", first["key"])
    assert forbidden["error"] == "Forbidden" and forbidden["request"] == refused.headers["x-request-id"]
    assert unauthorized["error"] == "Unauthorized" and "key" not in unauthorized
    assert (lost["route"], lost["status"], lost["error"]) == ("unknown", 404, "NotFound")
    assert "full-key" not in caplog.text and "read-key" not in caplog.text


async def test_lines_of_answers_are_a_sample_and_those_of_failures_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, log_requests_per_s=0) as client:
        with caplog.at_level(logging.INFO, "bebr.requests"):
            for _ in range(5):
                await client.get("/v1/collections")
                await client.get(DOCS)
        assert [line["status"] for line in lines(caplog)] == [404] * 5
        metrics = (await client.get("/metrics")).text
        assert 'bebr_errors_total{error="CollectionNotFound"} 5.0' in metrics
