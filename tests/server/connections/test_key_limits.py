"""One API key cannot take the whole service: it has a rate of its own, and its turn among the others."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.server.bundles import TINY
from tests.server.service import DOCS, code, points, settings

from bebr.cli.server.running import Service
from bebr.client import Client
from bebr.errors import Overloaded
from bebr.server.connections.key_limits import KeyLimits

RATE = 20
SEARCH = {"code_b64": code(3), "limit": 1}


def headers(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"a"), (b"authorization", b"bEaReR  " + key.encode())]


def test_a_key_has_a_name_however_it_is_sent() -> None:
    limits = KeyLimits(["one", "two"], 0)
    one, two = limits.name([(b"api-key", b"one")]), limits.name([(b"api-key", b"two")])
    assert one and two and one != two
    assert limits.name(headers("one")) == one
    assert limits.name_in(b"POST / HTTP/1.1\r\nhost: a\r\nAuthorization: BEARER  two \r\n\r\n") == two
    assert limits.name_in(b"POST / HTTP/1.1\r\nApi-Key:one\r\nhost: a\r\n\r\n") == one
    assert limits.name(headers("three")) == limits.name([]) == limits.name_in(b"GET / HTTP/1.1\r\n\r\n") == ""
    assert KeyLimits([], 5).name(headers("one")) == ""


def test_a_bucket_holds_a_second_and_fills_steadily(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limits = KeyLimits(["one", "two"], 10)
    name, other = limits.name(headers("one")), limits.name(headers("two"))

    def taken(name: str) -> int:
        count = 0
        while limits.take(name) is None:
            count += 1
        return count

    assert taken(name) == 10
    assert taken(other) == 10, "each key has its own"
    now += 0.25
    assert taken(name) == 2
    now += 60
    assert taken(name) == 10
    assert [limits.take("") for _ in range(50)] == [None] * 50, "unknown keys are refused elsewhere"
    free = KeyLimits(["one"], 0)
    assert [free.take(free.name(headers("one"))) for _ in range(50)] == [None] * 50


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, bundles: Path) -> Iterator[Service]:
    changes: dict[str, Any] = {"api_keys": ("loud", "quiet"), "read_only_api_keys": ("reader",)}
    folder = tmp_path_factory.mktemp("keys")
    changes |= {"key_requests_per_s": RATE, "bundles_dir": bundles, "port": 0}
    with Service(settings(folder, **changes)) as service:
        with httpx.Client(base_url=service.url, headers={"api-key": "quiet"}) as client:
            client.put(DOCS, json={"code": "24x2"}).raise_for_status()
            client.post(f"{DOCS}/points", json={"points": points(20)}).raise_for_status()
        yield service


def drained(service: Service, key: str) -> httpx.Client:
    """A caller whose key may send nothing for a minute."""
    limits: KeyLimits = service._app._app.state.keys
    bucket = limits._buckets[limits.name(headers(key))]
    bucket.left, bucket.filled_at = -60.0 * RATE, time.monotonic()
    return httpx.Client(base_url=service.url, headers={"authorization": f"Bearer {key}"})


def test_a_key_that_sends_too_much_is_refused_by_name_of_the_limit(service: Service) -> None:
    with drained(service, "loud") as loud:
        for answer in (loud.post(f"{DOCS}/search", json=SEARCH), loud.get("/v1/collections"), loud.get("/nowhere")):
            assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["error"] == "Overloaded"
            assert answer.json()["fields"]["limit"] == "key_requests_per_s"
        assert loud.get("/livez").status_code == 200
    for key in ("quiet", "reader"):
        answer = httpx.post(f"{service.url}{DOCS}/search", json=SEARCH, headers={"api-key": key})
        assert answer.json()["hits"][0]["id"] == "p003"
    assert httpx.get(f"{service.url}/v1/collections", headers={"api-key": "guess"}).status_code == 401


def test_clients_know_what_happened(service: Service) -> None:
    drained(service, "loud").close()
    with Client(service.url, api_key="loud", retries=0) as client, pytest.raises(Overloaded, match="per second"):
        client.list_collections()
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="loud", max_retries=0) as client:
        with pytest.raises(openai.RateLimitError, match="may send 20 requests per second") as caught:
            client.embeddings.create(model=TINY, input="a fox")
        assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "rate_limit_error")
        with pytest.raises(openai.RateLimitError):
            client.models.list()


def test_a_key_that_floods_leaves_the_others_their_turn(service: Service) -> None:
    """The lane is full of one key's requests: those of others are let in, and wait for as much of it as they have."""
    state = service._app._app.state
    lane, engine = state.services.engine.admission.search_requests, state.services.engine
    uid = engine.registry.key_of("docs")
    loud = uid + state.keys.name(headers("loud"))
    for _ in range(100):
        lane.enter(loud, 10_000)
    try:
        for _ in range(2):
            answer = httpx.post(f"{service.url}{DOCS}/search", json=SEARCH, headers={"api-key": "quiet"})
            assert answer.status_code == 200
            state.keys._buckets[state.keys.name(headers("loud"))].left = RATE
            answer = httpx.post(f"{service.url}{DOCS}/search", json=SEARCH, headers={"api-key": "loud"})
            assert (answer.status_code, answer.json()["fields"]["waiting"]) == (429, "search_requests")
    finally:
        for _ in range(100):
            lane.leave(loud, 10_000, done=False)
