"""bebr: binary-embedding search with versioned, backward-compatible codes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bebr.client import AsyncClient as AsyncClient
    from bebr.client import Client as Client

__all__ = ["AsyncClient", "Client"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the client only when it is requested, so that `import bebr` stays instant."""
    if name in __all__:
        return getattr(import_module("bebr.client"), name)
    raise AttributeError(f"module 'bebr' has no attribute {name!r}")
