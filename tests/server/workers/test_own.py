"""What a worker answers itself is a short list, all of it reads; all else, and so every new route, is the primary's."""

import re

import pytest

from bebr.server.access import is_read
from bebr.server.app import ROUTERS
from bebr.server.routes.search import PATH
from bebr.server.workers.own import is_own

ROUTES = [route for router in ROUTERS for route in router.routes]
OWN = {
    ("POST", PATH),
    ("POST", f"{PATH}/batch"),
    ("POST", "/v1/collections/{collection}/points/get"),
    ("POST", "/v1/collections/{collection}/points/scroll"),
    ("POST", "/v1/collections/{collection}/points/count"),
    ("GET", "/v1/collections/{collection}/points/{id:id}"),
    ("POST", "/v1/embeddings"),
    ("GET", "/livez"),
    ("GET", "/v1/aliases"),
    ("GET", "/v1/collections/{collection}/versions"),
}


def known(name: str) -> bool:
    return name != "unknown"


def scope(method: str, template: str, value: str) -> dict[str, object]:
    return {"type": "http", "method": method, "path": re.sub(r"{[^}]+}", value, template), "root_path": ""}


@pytest.mark.parametrize("value", ["x", "search", "points", "get"])
def test_every_route_but_these_is_the_primarys(value: str):
    templates = {(method, route.path) for route in ROUTES for method in route.methods}  # type: ignore[attr-defined]
    templates |= {("POST", PATH), ("POST", f"{PATH}/batch")}
    assert templates >= OWN
    assert {one for one in templates if is_own(known, scope(*one, value))} == OWN


def test_what_a_worker_answers_itself_only_reads():
    for method, template in OWN:
        if not template.startswith(PATH):  # the two hot routes are none of the routers'
            assert is_read(ROUTES, scope(method, template, "x")), template


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/collections/search"),
        ("PUT", "/v1/collections/a/search"),
        ("POST", "/v1/collections/a/search/"),
        ("POST", "/v1/collections/a/points/get/more"),
        ("POST", "/v1/collections//a/search"),
        ("OPTIONS", "/v1/embeddings"),
        ("POST", "/v2/collections/a/search"),
        ("GET", "/v1/collections/a/points"),
    ],
)
def test_what_only_looks_like_one_of_them_is_the_primarys(method: str, path: str):
    assert not is_own(known, {"type": "http", "method": method, "path": path})


def test_whether_a_collection_exists_is_the_primarys_to_say():
    body = {"type": "http", "method": "POST"}
    assert is_own(known, body | {"path": "/v1/collections/docs/search"})
    assert not is_own(known, body | {"path": "/v1/collections/unknown/search"})
