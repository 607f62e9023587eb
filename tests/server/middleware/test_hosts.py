"""Without keys: the names that the service answers to, and the web pages that may call it."""

from pathlib import Path

import httpx
import pytest
from tests.server.service import DOCS, assert_problem, create, serving

from bebr.server.middleware.hosts import KnownHosts


async def ask(client: httpx.AsyncClient, host: str, origin: str | None = None, path: str = "/v1/collections") -> int:
    headers = {"host": host} | ({"origin": origin} if origin else {})
    return (await client.get(path, headers=headers)).status_code


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("localhost", "localhost:8000", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:8000")),
        *(
            (host, 200)
            for host in ("[::1]:8000", "[::1]", "10.1.2.3:80", "bebr", "bebr:8000", "a.localhost", "nas.local")
        ),
        *((host, 200) for host in ("bebr.prod.svc.cluster.local:8000", "search.example.com", "a.example.org:1")),
        *(
            (host, 403)
            for host in ("evil.com", "evil.com:8000", "127.0.0.1.evil.com", "localhost.evil.com", "1.evil.com.")
        ),
        *(
            (host, 403)
            for host in ("example.com", "example.org", "b.search.example.com", "evil.com:8000:1", "[::1].a.com")
        ),
    ],
)
async def test_names_that_anybody_could_register_are_refused(host: str, status: int, tmp_path: Path) -> None:
    async with serving(tmp_path, allowed_hosts=("search.example.com", "*.example.org")) as client:
        for _ in range(2):
            assert await ask(client, host) == status


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:8000", "http://localhost:8000", 200),
        ("localhost:8000", "https://localhost:8000", 200),
        ("localhost:8000", "http://localhost:3000", 403),
        ("localhost:8000", "http://localhost", 403),
        ("localhost:8000", "https://evil.com", 403),
        ("localhost:8000", "null", 403),
        ("localhost:8000", "chrome-extension://abc", 403),
        ("localhost:8000", "file://", 403),
        ("localhost:8000", "https://app.example.com", 200),
        ("localhost:8000", "http://app.example.com", 403),
        ("localhost:8000", "https://a.example.org", 200),
    ],
)
async def test_web_pages_of_other_origins_are_refused(host: str, origin: str, status: int, tmp_path: Path) -> None:
    async with serving(tmp_path, allowed_origins=("https://app.example.com", "*.example.org")) as client:
        for _ in range(2):
            assert await ask(client, host, origin) == status
        assert await ask(client, host) == 200


async def test_a_web_page_can_start_nothing_on_a_local_service(tmp_path: Path) -> None:
    page = {"origin": "https://evil.com", "host": "localhost:8000"}
    async with serving(tmp_path) as client:
        await create(client, code=None, fit={"bytes": 4, "dims": 64, "sample": 200})
        for method, path in (
            ("POST", f"{DOCS}/fit"),
            ("DELETE", DOCS),
            ("POST", f"{DOCS}/points"),
            ("POST", "/v1/aliases"),
        ):
            answer = await client.request(method, path, headers=page)
            assert "evil.com" in assert_problem(answer, 403, "Forbidden")["detail"]
        assert (await client.get(DOCS)).status_code == 200
        rebound = await client.get(DOCS, headers={"host": "evil.com:8000"})
        assert "allowed_hosts" in assert_problem(rebound, 403, "Forbidden")["detail"]


async def test_with_keys_names_do_not_matter(tmp_path: Path) -> None:
    async with serving(tmp_path, api_keys=("secret",)) as client:
        client.headers["api-key"] = "secret"
        assert await ask(client, "search.example.com", "https://anything.example.com") == 200


async def test_probes_may_come_by_any_name(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        assert await ask(client, "lb.example.com", path="/livez") == 200


async def test_two_hosts_are_none() -> None:
    heard = []

    async def app(scope: object, receive: object, send: object) -> None:
        heard.append(scope)

    async def send(message: dict[str, object]) -> None:
        statuses.append(message.get("status"))

    statuses: list[object] = []
    hosts = KnownHosts(app, (), ())
    headers = [(b"host", b"localhost"), (b"host", b"evil.com")]
    await hosts({"type": "http", "path": "/", "method": "GET", "headers": headers}, None, send)  # type: ignore[arg-type]
    assert statuses[0] == 400 and not heard
