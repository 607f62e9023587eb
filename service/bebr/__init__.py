"""bebr: binary-embedding search with versioned, backward-compatible codes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bebr.errors import (
    Abandoned,
    AlreadyExists,
    AnswerTooLarge,
    BebrError,
    BundleNotFound,
    CollectionNotFound,
    Conflict,
    Damaged,
    DamagedBundle,
    DamagedCollection,
    DamagedPoint,
    DamagedSegment,
    DamagedStore,
    DeadlineExceeded,
    DimensionMismatch,
    DuplicateId,
    Forbidden,
    IdempotencyConflict,
    Incompatible,
    InsufficientStorage,
    InvalidCheckpoint,
    InvalidCode,
    InvalidEmbeddings,
    InvalidFilter,
    InvalidId,
    InvalidMetadata,
    InvalidOption,
    InvalidRequest,
    InvalidSpec,
    InvalidText,
    InvalidVector,
    JobNotFound,
    LeafUnavailable,
    Malformed,
    NotFound,
    NotPrimary,
    NotReady,
    Overloaded,
    PayloadTooLarge,
    PointNotFound,
    PrimaryUnavailable,
    ShardUnavailable,
    StaleDocument,
    StoreUnavailable,
    Unauthorized,
    Unavailable,
    VersionNotFound,
    WrongEventLoop,
)

if TYPE_CHECKING:
    from bebr.client import AsyncClient, Client

__all__ = [
    "Abandoned",
    "AlreadyExists",
    "AnswerTooLarge",
    "AsyncClient",
    "BebrError",
    "BundleNotFound",
    "Client",
    "CollectionNotFound",
    "Conflict",
    "Damaged",
    "DamagedBundle",
    "DamagedCollection",
    "DamagedPoint",
    "DamagedSegment",
    "DamagedStore",
    "DeadlineExceeded",
    "DimensionMismatch",
    "DuplicateId",
    "Forbidden",
    "IdempotencyConflict",
    "Incompatible",
    "InsufficientStorage",
    "InvalidCheckpoint",
    "InvalidCode",
    "InvalidEmbeddings",
    "InvalidFilter",
    "InvalidId",
    "InvalidMetadata",
    "InvalidOption",
    "InvalidRequest",
    "InvalidSpec",
    "InvalidText",
    "InvalidVector",
    "JobNotFound",
    "LeafUnavailable",
    "Malformed",
    "NotFound",
    "NotPrimary",
    "NotReady",
    "Overloaded",
    "PayloadTooLarge",
    "PointNotFound",
    "PrimaryUnavailable",
    "ShardUnavailable",
    "StaleDocument",
    "StoreUnavailable",
    "Unauthorized",
    "Unavailable",
    "VersionNotFound",
    "WrongEventLoop",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the client only when it is requested, so that `import bebr` stays instant."""
    if name in ("AsyncClient", "Client"):
        return getattr(import_module("bebr.client"), name)
    raise AttributeError(f"module 'bebr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
