"""Schemathesis makes requests from the OpenAPI document, valid and invalid ones, and the service does as it says.

`make fuzz-api` is the long run: all cases of the coverage phase, and EXAMPLES random ones for each operation.
"""

import copy
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS
from schemathesis.core.parameters import ParameterLocation
from tests.server.bundles import TINY, write_tiny_bundle
from tests.server.service import DOCS
from tests.server.service import settings as service_settings

from bebr.bootstrap import build_app
from bebr.cli.server.running import Service

LONG = int(os.environ.get("BEBR_FUZZ_EXAMPLES", "0"))
EXAMPLES = LONG or 15
COVERAGE = 40
"""Cases of the coverage phase for each operation in the short run, evenly from all of them."""
TEXTS = ["a quick brown fox", "parse a date", "binary codes", "search the lazy dog"]
OF_THE_STATE = {"positive_data_acceptance"}
"""Whether valid data is accepted depends on what is stored, too: dims of vectors, filterable fields, names of versions.
`refused_for_its_shape` looks at the reason instead."""
ITEM_BY_ITEM = {"negative_data_rejection"}
"""Routes that take points refuse them one by one, in an answer with status 200."""
OF_ANY_NAME = ("create_collection", "delete_collection")
IN_ITEMS = ("write_points", "ingest", "import_points")


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


def in_reach(document: dict[str, Any]) -> dict[str, Any]:
    """The document with a line for each body of NDJSON and, in the short run, with fewer filters."""
    document = copy.deepcopy(document)
    for item in document["paths"].values():
        for operation in item.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                content["schema"] = content["schema"].get("x-line-schema", content["schema"])
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        if "min_seq" in schema.get("properties", {}):  # what nobody has written yet is waited for, and then a 503
            schema["properties"]["min_seq"] = {"enum": [None, {}, {"0": 0}]}
        if "filter" in schema.get("properties", {}) and name != "Count" and not LONG:  # one route tries all filters
            schema["properties"]["filter"] = {"enum": [None, {}, {"must": [{"has_id": ["p1"]}]}]}
    if not LONG:
        schemas["SearchBatch"]["properties"]["searches"]["items"] = {"enum": [{"id": "p1"}, {"text": "a fox"}]}
    return document


# The document does not depend on where the service runs, and pytest wants to know the operations beforehand.
document = build_app(service_settings(Path("unused"), max_limit=100)).openapi()
schema = schemathesis.openapi.from_dict(in_reach(document))
seen: Counter[str] = Counter()


def refused_for_its_shape(case: schemathesis.Case, answer: schemathesis.Response) -> bool:
    """Whether the service found a fault in data in which the document has none."""
    if not case.meta.generation.mode.is_positive or answer.status_code not in (400, 415):
        return False
    return answer.status_code == 415 or "errors" in answer.json().get("fields", {})


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_the_service_does_as_the_document_says(case: schemathesis.Case, url: str) -> None:
    operation = case.operation.definition.raw["operationId"]
    if case.meta.phase.name == "coverage":
        seen[operation] += 1
        if not LONG and seen[operation] > COVERAGE and seen[operation] % 25:
            return
    of_docs = "collection" in case.path_parameters and operation not in OF_ANY_NAME
    if of_docs and not case.meta.is_negative_at(ParameterLocation.PATH):
        case.path_parameters["collection"] = "docs"
    without = OF_THE_STATE | (ITEM_BY_ITEM if operation in IN_ITEMS else set())
    checks = [check for check in CHECKS.get_all() if check.__name__ not in without]
    answer = case.call(base_url=url)
    case.validate_response(answer, checks=checks)
    assert not refused_for_its_shape(case, answer), (case.as_curl_command(), answer.text)
