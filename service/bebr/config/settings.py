"""Every setting: one field with its default, its kind and its help. Nothing else lists them.

A field is a `BEBR_<NAME>` variable, a key of the TOML file, a flag of `bebr serve` and a line of `docs/settings.md`.
Only `bootstrap` and the CLI see `Settings`; the engine and the API are handed `Limits`.
"""

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from bebr.config import machine
from bebr.config.values import BOOLEAN, DURATION, FOLDER, KEYS, REDIS_URL, TEXT, Kind, choice, integer, size

MIB = 2**20
GIB = 2**30


class Synchronous(StrEnum):
    """How SQLite flushes a commit: full survives a power cut, normal only the death of the process."""

    FULL = "full"
    NORMAL = "normal"


class LogLevel(StrEnum):
    """The least important message that is still logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """Lines for people, or one JSON object a line."""

    TEXT = "text"
    JSON = "json"


def _about(kind: Kind, group: str, help: str, secret: bool = False) -> Mapping[str, Any]:
    return {"kind": kind, "group": group, "help": help, "secret": secret}


def _limit(kind: Kind, help: str) -> Mapping[str, Any]:
    return _about(kind, "Limits", help)


@dataclass(frozen=True)
class Limits:
    """What one request, one queue and the whole process may use at most. Beyond it: 400, 413, 429 or 507."""

    max_limit: int = field(
        default=10_000,
        metadata=_limit(integer(1), "Most hits or points that one request may ask for."),
    )
    max_batch_points: int = field(
        default=10_000,
        metadata=_limit(integer(1), "Most points in one write."),
    )
    max_batch_searches: int = field(
        default=256,
        metadata=_limit(integer(1), "Most searches in one batch."),
    )
    max_text_chars: int = field(
        default=100_000,
        metadata=_limit(integer(1), "Longest text of a point or a query, in characters."),
    )
    max_metadata_bytes: int = field(
        default=64 * 1024,
        metadata=_limit(size(2), "Largest metadata of one point, as JSON."),
    )
    max_body_bytes: int = field(
        default=64 * MIB,
        metadata=_limit(size(1024), "Largest request body, after gzip is undone; bulk ingestion aside."),
    )
    max_ingest_bytes: int = field(
        default=16 * GIB,
        metadata=_limit(size(1024), "Largest body of one bulk ingestion, as sent."),
    )
    max_queue: int = field(
        default=1024,
        metadata=_limit(integer(1), "Requests that may wait for a scan; more get 429."),
    )
    max_jobs: int = field(
        default=100,
        metadata=_limit(integer(1), "Bulk jobs that may be queued or running; more get 429."),
    )
    max_collections: int = field(
        default=1000,
        metadata=_limit(integer(1), "Most collections."),
    )
    max_shards: int = field(
        default=64,
        metadata=_limit(integer(1, 1024), "Most shards of one collection."),
    )
    max_versions: int = field(
        default=64,
        metadata=_limit(integer(1), "Most code versions of one collection; every fit adds one."),
    )
    max_fit_sample: int = field(
        default=100_000,
        metadata=_limit(integer(1), "Most embeddings that a collection's own fit gathers, at dims bytes each."),
    )
    max_evaluation_points: int = field(
        default=5_000,
        metadata=_limit(integer(100), "Most points that an upgrade is measured on; each is embedded by the new model."),
    )
    backfill_points_per_s: int = field(
        default=100,
        metadata=_limit(integer(1), "Points a second that a backfill re-encodes, unless it says otherwise."),
    )
    ingest_batch_points: int = field(
        default=512,
        metadata=_limit(integer(1), "Points that a bulk job encodes and commits at a time."),
    )
    min_free_disk_bytes: int = field(
        default=512 * MIB,
        metadata=_limit(size(0), "Writes get 507 when the disk of the data folder has less free space."),
    )
    max_memory_bytes: int = field(
        default=0,
        metadata=_limit(size(0), "Writes get 507 when the process uses more; 0: 80 % of the machine or container."),
    )

    @property
    def memory_bytes(self) -> int:
        """`max_memory_bytes`, or 80 % of what this machine or container has."""
        return self.max_memory_bytes or machine.memory_bytes() * 8 // 10


@dataclass(frozen=True)
class Settings(Limits):
    """Every setting of the service. `Settings()` is the default service. Secrets stay out of its repr."""

    host: str = field(
        default="127.0.0.1",
        metadata=_about(TEXT, "Service", "Address to listen on; 0.0.0.0 for all."),
    )
    port: int = field(
        default=8000,
        metadata=_about(integer(0, 65535), "Service", "Port to listen on; 0 takes a free one."),
    )
    api_keys: tuple[str, ...] = field(
        default=(),
        repr=False,
        metadata=_about(
            KEYS, "Service", "Keys that may read and write, separated by commas; without any no key is asked for.", True
        ),
    )
    read_only_api_keys: tuple[str, ...] = field(
        default=(),
        repr=False,
        metadata=_about(KEYS, "Service", "Keys that may only read.", True),
    )
    open_metrics: bool = field(
        default=False,
        metadata=_about(BOOLEAN, "Service", "Answer /metrics without a key, where keys are asked for."),
    )
    log_level: LogLevel = field(
        default=LogLevel.INFO,
        metadata=_about(choice(LogLevel), "Service", "Least important message to log: debug, info, warning, error."),
    )
    log_format: LogFormat = field(
        default=LogFormat.TEXT,
        metadata=_about(choice(LogFormat), "Service", "Log lines for people (text) or as JSON (json)."),
    )

    data_dir: Path = field(
        default=Path("bebr-data"),
        metadata=_about(FOLDER, "Storage", "Folder of everything that the service keeps."),
    )
    bundles_dir: Path = field(
        default=Path("{data_dir}/bundles"),
        metadata=_about(FOLDER, "Storage", "Folder of pulled, imported and fitted bundles."),
    )
    redis_url: str | None = field(
        default=None,
        repr=False,
        metadata=_about(
            REDIS_URL, "Storage", "Redis or Valkey as the metadata store; without it SQLite in the data folder.", True
        ),
    )
    redis_prefix: str = field(
        default="bebr",
        metadata=_about(TEXT, "Storage", "First part of every Redis key."),
    )
    sqlite_synchronous: Synchronous = field(
        default=Synchronous.FULL,
        metadata=_about(
            choice(Synchronous), "Storage", "full survives a power cut; normal only the death of the process."
        ),
    )
    store_timeout_seconds: float = field(
        default=5.0,
        metadata=_about(DURATION, "Storage", "A store that takes longer to answer counts as down."),
    )
    receipt_ttl_seconds: float = field(
        default=86_400.0,
        metadata=_about(DURATION, "Storage", "How long an Idempotency-Key is remembered."),
    )

    search_threads: int = field(
        default=0,
        metadata=_about(integer(0, 1024), "Search", "Threads that scan shards; 0: one per core."),
    )
    encoder_threads: int = field(
        default=0,
        metadata=_about(integer(0, 1024), "Search", "Threads of the embedding model; 0: one per core."),
    )
    batching: bool = field(
        default=True,
        metadata=_about(BOOLEAN, "Search", "Scan once for all searches that arrive together."),
    )
    head_rows: int = field(
        default=8_192,
        metadata=_about(integer(16), "Search", "Rows that a shard gathers in memory before it seals a segment."),
    )

    def __post_init__(self) -> None:
        placed = str(self.bundles_dir).replace("{data_dir}", str(self.data_dir))
        object.__setattr__(self, "bundles_dir", Path(placed))

    @property
    def limits(self) -> Limits:
        """The part that the engine and the API need."""
        return Limits(**{limit.name: getattr(self, limit.name) for limit in fields(Limits)})

    @property
    def search_thread_count(self) -> int:
        """`search_threads`, or the number of cores."""
        return self.search_threads or machine.cores()

    @property
    def encoder_thread_count(self) -> int:
        """`encoder_threads`, or the number of cores."""
        return self.encoder_threads or machine.cores()


def setting_fields() -> list[Field[Any]]:
    """All settings in the order of the docs: group by group, limits last."""
    return [f for f in fields(Settings) if f.metadata["group"] != "Limits"] + list(fields(Limits))
