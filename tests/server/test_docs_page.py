"""The page at /docs."""

import re
from pathlib import Path

from tests.server.service import serving


async def test_docs_need_no_other_server_and_name_every_error(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        page = (await client.get("/", follow_redirects=True)).text
        assert "<script" not in page and not re.findall(r"(?:src|href)=['\"]?https?:", page)
        for needed in ("/v1/collections/{collection}/search", "DimensionMismatch", "id=Overloaded", "vector_b64"):
            assert needed in page
