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
from bebr.config.values import BOOLEAN, DURATION, FOLDER, KEYS, NAMES, REDIS_URL, TEXT, Kind, choice, integer, size

MIB = 2**20
GIB = 2**30


class Synchronous(StrEnum):
    """How SQLite flushes a commit: full survives a power failure, normal only a crash of the process."""

    FULL = "full"
    NORMAL = "normal"


class OnFitDrift(StrEnum):
    """What follows when points are no longer like those that were fitted to: nothing, a proposal, or another fit."""

    IGNORE = "ignore"
    PROPOSE = "propose"
    REFIT = "refit"


class LogLevel(StrEnum):
    """The least important message to log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """Lines for people, or one JSON object per line."""

    TEXT = "text"
    JSON = "json"


def _about(kind: Kind, group: str, help: str, secret: bool = False) -> Mapping[str, Any]:
    return {"kind": kind, "group": group, "help": help, "secret": secret}


def _limit(kind: Kind, help: str) -> Mapping[str, Any]:
    return _about(kind, "Limits", help)


@dataclass(frozen=True)
class Limits:
    """What one request, one queue and the whole process may use at most. What exceeds it is refused at once."""

    max_limit: int = field(
        default=10_000,
        metadata=_limit(integer(1, 100_000), "Maximum number of hits or points per request."),
    )
    max_batch_points: int = field(
        default=10_000,
        metadata=_limit(integer(1, 100_000), "Maximum number of points per write."),
    )
    max_candidates: int = field(
        default=10_000,
        metadata=_limit(integer(1, 100_000), "Maximum number of candidates that one search scores again."),
    )
    max_batch_searches: int = field(
        default=256,
        metadata=_limit(integer(1, 10_000), "Maximum number of searches per batch."),
    )
    max_filter_size: int = field(
        default=20_000,
        metadata=_limit(integer(1), "Maximum number of conditions and values in the filters of one request."),
    )
    max_text_chars: int = field(
        default=100_000,
        metadata=_limit(integer(1), "Maximum length of a text, in characters."),
    )
    scrub_bytes_per_s: int = field(
        default=4 * MIB,
        metadata=_limit(size(0), "How fast segment files are read in the background to find damage; 0: never."),
    )
    max_metadata_bytes: int = field(
        default=64 * 1024,
        metadata=_limit(size(2), "Maximum size of the metadata of one point, as JSON."),
    )
    max_body_bytes: int = field(
        default=64 * MIB,
        metadata=_limit(
            size(1024), "Maximum size of the body of a write, uncompressed; bulk ingestion has its own limit."
        ),
    )
    max_query_bytes: int = field(
        default=MIB,
        metadata=_limit(
            size(1024), "Maximum size of the body of any other request than writes, batches of searches and embeddings."
        ),
    )
    max_batch_bytes: int = field(
        default=16 * MIB,
        metadata=_limit(
            size(1024), "Maximum size of the body of a batch of searches, of an evaluation and of texts to embed."
        ),
    )
    max_bytes_in_flight: int = field(
        default=256 * MIB,
        metadata=_limit(
            size(1024), "Maximum size of all large bodies that are held at a time; more are refused as Overloaded."
        ),
    )
    body_timeout_seconds: float = field(
        default=120.0,
        metadata=_about(DURATION, "Limits", "A body other than a bulk ingestion must have come within this time."),
    )
    max_uploads: int = field(
        default=16,
        metadata=_limit(
            integer(1), "Maximum number of bulk ingestions whose bodies are coming in; more are refused as Overloaded."
        ),
    )
    max_ingest_bytes: int = field(
        default=16 * GIB,
        metadata=_limit(size(1024), "Maximum size of one bulk ingestion, as sent."),
    )
    max_queue: int = field(
        default=1024,
        metadata=_limit(integer(1), "Maximum number of requests that wait in one queue, however fast it is."),
    )
    request_timeout_seconds: float = field(
        default=2.0,
        metadata=_limit(
            DURATION,
            "How long callers wait who send no x-timeout-ms. Work that could not begin within half of it is refused as "
            "Overloaded.",
        ),
    )
    max_answer_bytes: int = field(
        default=32 * MIB,
        metadata=_limit(
            size(1024), "Maximum size of the metadata and codes in one answer; pages end where it is reached."
        ),
    )
    background_percent: int = field(
        default=100,
        metadata=_limit(
            integer(1, 100),
            "Share of the processor time left by other requests that jobs may use to embed texts, in percent.",
        ),
    )
    max_jobs: int = field(
        default=100,
        metadata=_limit(integer(1), "Maximum number of bulk jobs queued or running; more are refused as Overloaded."),
    )
    max_collections: int = field(
        default=1000,
        metadata=_limit(integer(1), "Maximum number of collections."),
    )
    max_shards: int = field(
        default=64,
        metadata=_limit(integer(1, 1024), "Maximum number of shards per collection."),
    )
    max_versions: int = field(
        default=64,
        metadata=_limit(integer(1), "Maximum number of code versions per collection; every fit adds one."),
    )
    max_fit_sample: int = field(
        default=100_000,
        metadata=_limit(integer(1), "Maximum training sample of a fit; each embedding takes dims bytes."),
    )
    fit_collect_times: int = field(
        default=5,
        metadata=_limit(
            integer(1, 1000),
            "A fit draws its sample at random once this many times as many points are collected, or once the "
            "collection has stopped growing.",
        ),
    )
    fit_rest_seconds: float = field(
        default=5.0,
        metadata=_limit(
            DURATION,
            "A collection that does not grow in this time has stopped growing, for its fit; or grows by less than one "
            "percent in twelve times as long.",
        ),
    )
    on_fit_drift: OnFitDrift = field(
        default=OnFitDrift.PROPOSE,
        metadata=_limit(
            choice(OnFitDrift),
            "What follows when points are no longer like those that a collection's binarizer was fitted to.",
        ),
    )
    fit_drift_percent: int = field(
        default=10,
        metadata=_limit(
            integer(1, 1000),
            "Points have changed when their codes are further from the embeddings than at the fit, by this share.",
        ),
    )
    max_fit_reservoir_bytes: int = field(
        default=64 * MIB,
        metadata=_limit(
            size(0),
            "Maximum size of the embeddings that the store keeps of a sample of a collection's points after its fit; "
            "0: none.",
        ),
    )
    max_fit_buffer_bytes: int = field(
        default=256 * MIB,
        metadata=_limit(
            size(0), "Maximum size of the embeddings that a collection collects beyond the training sample of its fit."
        ),
    )
    coverage_one_in: int = field(
        default=1_000,
        metadata=_limit(
            integer(0),
            "Of so many searches that take a shortcut, one is answered once more without it in the background, to "
            "measure what it misses; 0: none.",
        ),
    )
    coverage_max_points: int = field(
        default=200_000,
        metadata=_limit(
            integer(0), "Searches of larger collections are not checked so: that reads all of their codes."
        ),
    )
    max_evaluation_points: int = field(
        default=5_000,
        metadata=_limit(integer(100), "Maximum number of points in an evaluation; the new model embeds each."),
    )
    backfill_points_per_s: int = field(
        default=100,
        metadata=_limit(integer(1), "Default rate of a backfill, in points per second."),
    )
    ingest_batch_points: int = field(
        default=512,
        metadata=_limit(integer(1), "Number of points that a bulk job encodes and commits at a time."),
    )
    min_free_disk_bytes: int = field(
        default=512 * MIB,
        metadata=_limit(size(0), "Writes are refused when the disk of the data folder has less free space."),
    )
    max_memory_bytes: int = field(
        default=0,
        metadata=_limit(size(0), "Writes are refused when the process uses more; 0: 80 % of the machine or container."),
    )

    @property
    def proposes_fits(self) -> bool:
        """Whether something follows when points are no longer like those that were fitted to."""
        return self.on_fit_drift is not OnFitDrift.IGNORE

    @property
    def makes_fits(self) -> bool:
        """Whether another fit follows then."""
        return self.on_fit_drift is OnFitDrift.REFIT

    @property
    def memory_bytes(self) -> int:
        """`max_memory_bytes`, or 80 % of what this machine or container has."""
        return self.max_memory_bytes or machine.memory_bytes() * 8 // 10


@dataclass(frozen=True)
class Settings(Limits):
    """Every setting of the service. `Settings()` is the default service. Secrets stay out of its repr."""

    host: str = field(
        default="127.0.0.1",
        metadata=_about(TEXT, "Service", "Address to listen on; 0.0.0.0 for all interfaces."),
    )
    port: int = field(
        default=8000,
        metadata=_about(integer(0, 65535), "Service", "Port to listen on; 0 picks a free one."),
    )
    api_keys: tuple[str, ...] = field(
        default=(),
        repr=False,
        metadata=_about(
            KEYS,
            "Service",
            "Keys that may read and write, separated by commas; none: no key is needed.",
            True,
        ),
    )
    read_only_api_keys: tuple[str, ...] = field(
        default=(),
        repr=False,
        metadata=_about(KEYS, "Service", "Keys that may only read.", True),
    )
    key_requests_per_s: int = field(
        default=0,
        metadata=_about(
            integer(0),
            "Service",
            "Maximum number of requests per second of each key; more are refused as Overloaded; 0: any number.",
        ),
    )
    open_metrics: bool = field(
        default=False,
        metadata=_about(BOOLEAN, "Service", "Serve /metrics without a key even if keys are set."),
    )
    allowed_hosts: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            NAMES,
            "Service",
            "Names that a service without keys answers to, separated by commas, with * for any part; addresses and "
            "names of private networks need no entry.",
        ),
    )
    allowed_origins: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            NAMES,
            "Service",
            "Origins of web pages that may call a service without keys, separated by commas, as https://app.example.com.",
        ),
    )
    log_level: LogLevel = field(
        default=LogLevel.INFO,
        metadata=_about(choice(LogLevel), "Service", "Least important message to log: debug, info, warning, error."),
    )
    log_format: LogFormat = field(
        default=LogFormat.TEXT,
        metadata=_about(choice(LogFormat), "Service", "Log lines for people (text) or as JSON (json)."),
    )
    log_requests_per_s: int = field(
        default=10,
        metadata=_about(
            integer(0), "Service", "Requests that succeeded have at most this many log lines per second; 0: none."
        ),
    )
    slow_loop_seconds: float = field(
        default=0.25,
        metadata=_about(DURATION, "Service", "Log when no request could be answered for this long."),
    )
    probe_port: int = field(
        default=0,
        metadata=_about(
            integer(0, 65535),
            "Service",
            "Port where /livez and /readyz are answered too, without keys, by threads that no load holds up; 0: none.",
        ),
    )
    dead_loop_seconds: float = field(
        default=60.0,
        metadata=_about(
            DURATION, "Service", "On the probe port /livez says 503 once no request could be answered for this long."
        ),
    )

    max_connections: int = field(
        default=4096,
        metadata=_about(
            integer(1),
            "Connections",
            "Maximum number of open connections, and never more than half of the process's open files; those that wait "
            "longest for their caller make room for new ones.",
        ),
    )
    keep_alive_seconds: float = field(
        default=60.0,
        metadata=_about(DURATION, "Connections", "How long an idle connection is kept for the next request."),
    )
    header_timeout_seconds: float = field(
        default=10.0,
        metadata=_about(DURATION, "Connections", "The request line and headers must have come within this time."),
    )
    min_body_bytes_per_s: int = field(
        default=1024,
        metadata=_about(
            size(0), "Connections", "Bodies must arrive, and answers be read, at this rate over 10 seconds; 0: any."
        ),
    )
    max_header_bytes: int = field(
        default=64 * 1024,
        metadata=_about(size(1024), "Connections", "Maximum size of the request line and headers."),
    )
    max_headers: int = field(
        default=100,
        metadata=_about(integer(10), "Connections", "Maximum number of headers."),
    )

    data_dir: Path = field(
        default=Path("bebr-data"),
        metadata=_about(FOLDER, "Storage", "Folder for everything that the service stores."),
    )
    bundles_dir: Path = field(
        default=Path("{data_dir}/bundles"),
        metadata=_about(FOLDER, "Storage", "Folder for pulled, imported and fitted bundles."),
    )
    redis_url: str | None = field(
        default=None,
        repr=False,
        metadata=_about(
            REDIS_URL, "Storage", "Use this Redis or Valkey as the store. Default: SQLite in the data folder.", True
        ),
    )
    redis_prefix: str = field(
        default="bebr",
        metadata=_about(TEXT, "Storage", "Prefix of every Redis key."),
    )
    sqlite_synchronous: Synchronous = field(
        default=Synchronous.FULL,
        metadata=_about(
            choice(Synchronous), "Storage", "full survives a power failure; normal only a crash of the process."
        ),
    )
    store_timeout_seconds: float = field(
        default=5.0,
        metadata=_about(DURATION, "Storage", "A store that takes longer than this to answer counts as down."),
    )
    receipt_ttl_seconds: float = field(
        default=86_400.0,
        metadata=_about(DURATION, "Storage", "How long an idempotency key is remembered."),
    )

    search_threads: int = field(
        default=0,
        metadata=_about(integer(0, 1024), "Search", "Number of threads that scan shards; 0: one per core."),
    )
    encoder_threads: int = field(
        default=0,
        metadata=_about(integer(0, 1024), "Search", "Number of threads of the embedding model; 0: one per core."),
    )
    batching: bool = field(
        default=True,
        metadata=_about(BOOLEAN, "Search", "Run searches that arrive together in one scan."),
    )
    head_rows: int = field(
        default=8_192,
        metadata=_about(integer(16), "Search", "Number of rows that a growing segment holds before it is sealed."),
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
