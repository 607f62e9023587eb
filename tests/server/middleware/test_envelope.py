"""Request ids, the version, and what happens to unexpected errors."""

import logging
from pathlib import Path

import pytest
from tests.server.service import assert_problem, running, serving, settings

from bebr import __version__
from bebr.bootstrap import build_app


async def test_every_answer_has_a_request_id_and_the_version(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        ids = [(await client.get(path)).headers["x-request-id"] for path in ("/livez", "/nope", "/v1/jobs/nope")]
        assert len(set(ids)) == 3
        answer = await client.get("/livez", headers={"x-request-id": "mine-1"})
        assert answer.headers["x-request-id"] == "mine-1" and answer.headers["bebr-version"] == __version__
        answer = await client.get("/livez", headers={"x-request-id": "<script>"})
        assert answer.headers["x-request-id"] != "<script>"


async def test_an_unexpected_error_is_logged_and_told_without_internals(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = build_app(settings(tmp_path))

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the secret is sesame")

    async with running(app) as client:
        with caplog.at_level(logging.ERROR):
            answer = await client.get("/broken")
        problem = assert_problem(answer, 500, "InternalError")
        assert "sesame" not in answer.text
        assert problem["fields"]["request_id"] == answer.headers["x-request-id"]
        record = next(r for r in caplog.records if r.exc_info)
        assert answer.headers["x-request-id"] in record.getMessage() and "sesame" in str(record.exc_info[1])
        text = (await client.get("/metrics")).text
        assert 'bebr_http_requests_total{method="GET",route="/broken",status="500"} 1.0' in text
