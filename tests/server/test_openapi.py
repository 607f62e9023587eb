"""What the documentation shows works: every example of a request, sent as it stands."""

import json
from pathlib import Path
from typing import Any

from tests.client.running import tiny_text_bundle
from tests.server.service import DOCS, serving

JSON = "application/json"


def example(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    """The example of a schema that is a reference."""
    return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["examples"][0]


async def test_every_example_of_the_document_works(tmp_path: Path) -> None:
    tiny_text_bundle(tmp_path / "bundles", tmp_path / "scratch", version="2")
    async with serving(tmp_path) as client:
        document = (await client.get("/openapi.json")).json()
        sent = 0
        paths = sorted(document["paths"].items(), key=lambda item: ("put" not in item[1], item[0]))
        for path, operations in paths:  # the collection is made first, and "points" comes before what needs them
            if "/versions" in path:
                continue  # these are an upgrade, see test_version_routes
            for method, operation in operations.items():
                for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                    model = content["schema"].get("x-line-schema", content["schema"])
                    if "$ref" not in model:
                        continue
                    body = json.dumps(example(document, model))
                    is_moved = path.endswith(("/definition", "/points/import"))
                    url = path.replace("{collection}", "moved" if is_moved else "docs")
                    answer = await client.request(method, url, content=body, headers={"content-type": kind})
                    assert answer.status_code in (200, 202), (method, url, body, answer.text)
                    sent += 1
        assert sent >= 13
        assert (await client.get(f"{DOCS}/points/a")).json()["metadata"]["lang"] in ("en", "de")
        page = (await client.get("/docs")).text
        assert "how do I parse a date" in page


async def test_bodies_that_the_document_leaves_optional_may_be_left_out(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        document = (await client.get("/openapi.json")).json()
        seen = set()
        for path, item in document["paths"].items():
            for method, operation in item.items():
                if operation.get("requestBody", {"required": True})["required"]:
                    continue
                answer = await client.request(method, path.replace("{collection}", "absent"))
                assert answer.json()["error"] == "CollectionNotFound", (path, answer.text)
                seen.add(operation["operationId"])
        assert seen == {"fit_collection", "scroll", "count", "evaluate_version", "backfill", "export_points"}
