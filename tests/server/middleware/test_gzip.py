"""Large answers are compressed for callers that accept it."""

from pathlib import Path

from tests.server.service import DOCS, create, fill, serving


async def test_large_answers_are_zipped_for_those_who_accept_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 300)
        body = {"ids": [f"p{i:03}" for i in range(300)]}
        for accepted, zipped in (("gzip", True), ("br, gzip;q=0.5", True), ("identity", False), ("gzip;q=0", False)):
            answer = await client.post(f"{DOCS}/points/get", json=body, headers={"accept-encoding": accepted})
            assert len(answer.json()["points"]) == 300
            assert (answer.headers.get("content-encoding") == "gzip") is zipped
        answer = await client.get("/livez")
        assert "content-encoding" not in answer.headers
