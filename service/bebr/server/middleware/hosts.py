"""Which names this service answers to, and which web pages may call it.

Without keys whoever reaches the service may use it, so a web page in a browser on this machine or network must not
reach it: neither by a name of its own that it points here (DNS rebinding), nor by posting to `localhost`. Addresses and
names that nobody can register are safe; others need the setting `allowed_hosts`. A page of another origin needs
`allowed_origins`.
"""

import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase

from starlette.types import ASGIApp, Receive, Scope, Send

from bebr.errors import Forbidden
from bebr.server.problems import InvalidHttp, answer_problem

OPEN_PATH = "/livez"
PRIVATE_ENDINGS = (".localhost", ".local", ".internal", ".lan", ".home.arpa", ".svc")
"""Names with these endings are of private networks: nobody can register them."""
MAX_REMEMBERED = 1000


class KnownHosts:
    """Refuse requests to other names (403), and those of web pages of other origins."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str], origins: Sequence[str]) -> None:
        """hosts, origins: beyond those that are safe, with `*` for any part. `origins` without scheme or with it."""
        self._app = app
        self._hosts = tuple(host.lower() for host in hosts)
        self._origins = tuple(origin.lower().rstrip("/") for origin in origins)
        self._known: set[tuple[bytes, bytes | None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != OPEN_PATH:
            hosts, origin = [], None
            for name, value in scope["headers"]:
                if name == b"host":
                    hosts.append(value)
                elif name == b"origin":
                    origin = value
            if len(hosts) != 1 or (hosts[0], origin) not in self._known:
                refusal = self._refusal(hosts, origin)
                if refusal is not None:
                    await answer_problem(refusal, scope, receive, send)
                    return
        await self._app(scope, receive, send)

    def _refusal(self, hosts: list[bytes], origin: bytes | None) -> Forbidden | InvalidHttp | None:
        if len(hosts) > 1:
            return InvalidHttp(f"expected one header host, got {len(hosts)}")
        host = hosts[0].decode("latin-1").strip().lower() if hosts else ""
        if host and not self._answers_to(_without_port(host)):
            return Forbidden(
                f"this service has no API keys and does not answer to the name {host!r:.100}; add it to the setting "
                "allowed_hosts, or set api_keys",
                host=host[:200],
            )
        if origin is not None and not self._takes(origin.decode("latin-1").strip().lower(), host):
            return Forbidden(
                f"this service has no API keys and takes no requests of web pages of {origin!r:.100}; add it to the "
                "setting allowed_origins, or set api_keys",
                origin=origin.decode("latin-1")[:200],
            )
        if hosts and len(self._known) < MAX_REMEMBERED:
            self._known.add((hosts[0], origin))
        return None

    def _answers_to(self, name: str) -> bool:
        if any(fnmatchcase(name, pattern) for pattern in self._hosts):
            return True
        with suppress(ValueError):
            return bool(ipaddress.ip_address(name.strip("[]")))
        name = name.rstrip(".")
        return "." not in name or name.endswith(PRIVATE_ENDINGS)

    def _takes(self, origin: str, host: str) -> bool:
        scheme, _, authority = origin.partition("://")
        if scheme in ("http", "https") and authority == host:
            return True
        return any(fnmatchcase(origin, pattern) or fnmatchcase(authority, pattern) for pattern in self._origins)


def _without_port(host: str) -> str:
    """'[::1]:8000' -> '[::1]', 'a:80' -> 'a'."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and (":" not in name or name.endswith("]")) else host
