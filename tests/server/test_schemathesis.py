"""Schemathesis makes requests from the OpenAPI document: none ends in a 500, and every answer is as documented."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS
from tests.server.bundles import TINY, write_tiny_bundle
from tests.server.service import DOCS
from tests.server.service import settings as service_settings

from bebr.bootstrap import build_app
from bebr.cli.server.running import Service

CHECKED = ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"]
EXAMPLES = 60
"""Requests for each operation and phase: about half a minute in all."""
TEXTS = ["a quick brown fox", "parse a date", "binary codes", "search the lazy dog"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real service with a collection of a few points."""
    folder = tmp_path_factory.mktemp("service")
    write_tiny_bundle(folder / "bundles", folder)
    with Service(service_settings(folder, port=0, max_limit=100, max_collections=20)) as service:
        body = {"bundle": TINY, "filterable": {"lang": "keyword", "year": "integer"}}
        httpx.put(f"{service.url}{DOCS}", json=body).raise_for_status()
        points = [{"id": f"p{i}", "text": text, "metadata": {"year": i}} for i, text in enumerate(TEXTS)]
        httpx.post(f"{service.url}{DOCS}/points", json={"points": points}).raise_for_status()
        yield service.url


@schemathesis.serializer("application/x-ndjson")
def one_line(_: schemathesis.SerializationContext, value: object) -> bytes:
    """NDJSON of one line; what is no JSON goes as it is."""
    return value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"


def unrolled(document: dict[str, Any]) -> dict[str, Any]:
    """The document with filters that nest once: the generator runs out of stack on a schema that refers to itself."""
    document = copy.deepcopy(document)
    schemas = document["components"]["schemas"]
    nested = {"$ref": "#/components/schemas/FilterTree"}
    schemas["FlatFilter"] = copy.deepcopy(schemas["FilterTree"])
    for part in ("must", "should", "must_not"):
        schemas["FlatFilter"]["properties"][part]["items"]["anyOf"].remove(nested)
        conditions = schemas["FilterTree"]["properties"][part]["items"]["anyOf"]
        conditions[conditions.index(nested)] = {"$ref": "#/components/schemas/FlatFilter"}
    return document


# The document does not depend on where the service runs, and pytest wants to know the operations beforehand.
schema = schemathesis.openapi.from_dict(unrolled(build_app(service_settings(Path("unused"))).openapi()))


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_documented(case: schemathesis.Case, url: str) -> None:
    if case.method != "DELETE" and "collection" in case.path_parameters:
        case.path_parameters["collection"] = "docs"
    case.call_and_validate(base_url=url, checks=CHECKS.get_by_names(CHECKED))
