"""The page at /docs, without a browser."""

import re
from pathlib import Path

from tests.server.service import serving

from bebr.server.pages.assets import assets


async def test_docs_need_no_other_server_and_name_every_error(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        page = (await client.get("/docs")).text
        assert not re.findall(r"(?:src|href)=['\"]?https?:[^>]*\.(?:js|css)", page)
        for needed in ("/v1/collections/{collection}/search", "DimensionMismatch", "id=Overloaded", "vector_b64"):
            assert needed in page
        document = (await client.get("/openapi.json")).json()
        for name in document["components"]["schemas"]:
            assert f'id="shape-{name}"' in page
        assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))
        assert page.index(">Search</h2>") < page.index(">Operations</h2>")


async def test_pages_are_open_and_run_nothing_but_their_own_files(tmp_path: Path) -> None:
    async with serving(tmp_path, api_keys=("secret",)) as client:
        for path in ("/", "/docs", *(f"/assets/{name}" for name in assets())):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert "script-src 'self'" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
        for path in ("/assets/other.js", "/assets/..%2Fassets.py", "/assets/"):
            assert (await client.get(path, headers={"api-key": "secret"})).status_code == 404
