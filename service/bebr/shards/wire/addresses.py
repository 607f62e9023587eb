"""Addresses of leaves: `host:port`, `[2001:db8::1]:port`, or `unix:/path` of a socket."""

from bebr.errors import InvalidOption

UNIX = "unix:"


def unix_path(address: str) -> str | None:
    """The path of a socket; None: it is a host and a port."""
    return address.removeprefix(UNIX) if address.startswith(UNIX) else None


def host_and_port(address: str) -> tuple[str, int]:
    """Raises InvalidOption."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise InvalidOption(f"expected host:port, or unix:/path of a socket, got {address!r:.200}", key="address")
    return host.removeprefix("[").removesuffix("]"), int(port)


def address_of(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
