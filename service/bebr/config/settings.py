"""Every setting: one field with its default, its kind and its help; those that the engine is handed are in `limits`.

A field is a `BEBR_<NAME>` variable, a key of the TOML file, a flag of `bebr serve` and a line of `docs/settings.md`.
Only `bootstrap` and the CLI see `Settings`; the engine and the API are handed `Limits`.
"""

from dataclasses import Field, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from bebr.config import machine
from bebr.config.limits import Limits, about
from bebr.config.values import BOOLEAN, DURATION, FOLDER, KEYS, NAMES, REDIS_URL, TEXT, choice, choices, integer, size
from bebr.errors import InvalidOption


class Synchronous(StrEnum):
    """How SQLite flushes a commit: full survives a power failure, normal only a crash of the process."""

    FULL = "full"
    NORMAL = "normal"


class OnnxProvider(StrEnum):
    """What embeds texts: the processor, or an accelerator that ONNX Runtime knows."""

    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"
    ROCM = "rocm"
    MIGRAPHX = "migraphx"
    OPENVINO = "openvino"
    COREML = "coreml"
    DML = "dml"


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


@dataclass(frozen=True)
class Settings(Limits):
    """Every setting of the service. `Settings()` is the default service. Secrets stay out of its repr."""

    host: str = field(
        default="127.0.0.1",
        metadata=about(TEXT, "Service", "Address to listen on; 0.0.0.0 for all interfaces."),
    )
    port: int = field(
        default=8000,
        metadata=about(integer(0, 65535), "Service", "Port to listen on; 0 picks a free one."),
    )
    workers: int = field(
        default=1,
        metadata=about(
            integer(0, 256),
            "Service",
            "Number of processes that answer on the port; 0: one per core. Limits are of each process, unless they say "
            "otherwise.",
        ),
    )
    primary_wait_seconds: float = field(
        default=30.0,
        metadata=about(
            DURATION,
            "Service",
            "With several workers: how long requests that only the primary one answers wait while it is replaced.",
        ),
    )
    reload_wait_seconds: float = field(
        default=300.0,
        metadata=about(
            DURATION,
            "Service",
            "With several workers: how long a reload waits for requests that are under way, such as long uploads, "
            "before it cuts them.",
        ),
    )
    api_keys: tuple[str, ...] = field(
        default=(),
        repr=False,
        metadata=about(
            KEYS,
            "Service",
            "Keys that may read and write, separated by commas; none: no key is needed.",
            True,
        ),
    )
    read_only_api_keys: tuple[str, ...] = field(
        default=(),
        repr=False,
        metadata=about(KEYS, "Service", "Keys that may only read.", True),
    )
    key_requests_per_s: int = field(
        default=0,
        metadata=about(
            integer(0),
            "Service",
            "Maximum number of requests per second of each key, by all workers together; more are refused as "
            "Overloaded; 0: any number.",
        ),
    )
    open_metrics: bool = field(
        default=False,
        metadata=about(BOOLEAN, "Service", "Serve /metrics without a key even if keys are set."),
    )
    allowed_hosts: tuple[str, ...] = field(
        default=(),
        metadata=about(
            NAMES,
            "Service",
            "Names that a service without keys answers to, separated by commas, with * for any part; addresses and "
            "names of private networks need no entry.",
        ),
    )
    allowed_origins: tuple[str, ...] = field(
        default=(),
        metadata=about(
            NAMES,
            "Service",
            "Origins of web pages that may call a service without keys, separated by commas, as https://app.example.com.",
        ),
    )
    log_level: LogLevel = field(
        default=LogLevel.INFO,
        metadata=about(choice(LogLevel), "Service", "Least important message to log: debug, info, warning, error."),
    )
    log_format: LogFormat = field(
        default=LogFormat.TEXT,
        metadata=about(choice(LogFormat), "Service", "Log lines for people (text) or as JSON (json)."),
    )
    log_requests_per_s: int = field(
        default=10,
        metadata=about(
            integer(0), "Service", "Requests that succeeded have at most this many log lines per second; 0: none."
        ),
    )
    slow_loop_seconds: float = field(
        default=0.25,
        metadata=about(DURATION, "Service", "Log when no request could be answered for this long."),
    )
    probe_port: int = field(
        default=0,
        metadata=about(
            integer(0, 65535),
            "Service",
            "Port where /livez and /readyz are answered too, without keys, by threads that no load holds up; 0: none.",
        ),
    )
    dead_loop_seconds: float = field(
        default=60.0,
        metadata=about(
            DURATION, "Service", "On the probe port /livez fails once no request could be answered for this long."
        ),
    )

    max_connections: int = field(
        default=4096,
        metadata=about(
            integer(1),
            "Connections",
            "Maximum number of open connections, and never more than half of the process's open files; those that wait "
            "longest for their caller make room for new ones.",
        ),
    )
    keep_alive_seconds: float = field(
        default=60.0,
        metadata=about(DURATION, "Connections", "How long an idle connection is kept for the next request."),
    )
    header_timeout_seconds: float = field(
        default=10.0,
        metadata=about(DURATION, "Connections", "The request line and headers must have come within this time."),
    )
    min_body_bytes_per_s: int = field(
        default=1024,
        metadata=about(
            size(0), "Connections", "Bodies must arrive, and answers be read, at this rate over 10 seconds; 0: any."
        ),
    )
    max_header_bytes: int = field(
        default=64 * 1024,
        metadata=about(size(1024), "Connections", "Maximum size of the request line and headers."),
    )
    max_headers: int = field(
        default=100,
        metadata=about(integer(10), "Connections", "Maximum number of headers."),
    )

    data_dir: Path = field(
        default=Path("bebr-data"),
        metadata=about(FOLDER, "Storage", "Folder for everything that the service stores."),
    )
    bundles_dir: Path = field(
        default=Path("{data_dir}/bundles"),
        metadata=about(FOLDER, "Storage", "Folder for pulled, imported and fitted bundles."),
    )
    redis_url: str | None = field(
        default=None,
        repr=False,
        metadata=about(
            REDIS_URL,
            "Storage",
            "Use this Redis or Valkey as the store; several nodes of a cluster with commas between, so that one may be "
            "down. Default: SQLite in the data folder.",
            True,
        ),
    )
    redis_prefix: str = field(
        default="bebr",
        metadata=about(TEXT, "Storage", "Prefix of every Redis key."),
    )
    redis_ack_replicas: int = field(
        default=1,
        metadata=about(
            integer(0, 100),
            "Storage",
            "Replicas of Redis that must have a write before it is acknowledged, once Redis was seen to have any. With "
            "fewer, writes fail.",
        ),
    )
    shared_store: bool = field(
        default=False,
        metadata=about(
            BOOLEAN,
            "Storage",
            "Share the Redis prefix with other services that say so too, each with its own data folder; together they "
            "are one service.",
        ),
    )
    member_name: str = field(
        default="{host}:{pid}",
        metadata=about(
            TEXT,
            "Storage",
            "With shared_store: what this service is called among those that share the store; {host} and {pid} "
            "stand for its machine and its process.",
        ),
    )
    tombstone_seconds: float = field(
        default=86_400.0,
        metadata=about(
            DURATION,
            "Storage",
            "With shared_store: deletes are kept in the store for this long at least; a service that was away for "
            "longer reads whole shards again.",
        ),
    )
    allow_volatile_store: bool = field(
        default=False,
        metadata=about(
            BOOLEAN,
            "Storage",
            "Use a Redis that may lose what it acknowledged: one that evicts keys, or without an append-only file.",
        ),
    )
    sqlite_synchronous: Synchronous = field(
        default=Synchronous.FULL,
        metadata=about(
            choice(Synchronous), "Storage", "full survives a power failure; normal only a crash of the process."
        ),
    )
    point_cache_bytes: int = field(
        default=16 * 2**20,
        metadata=about(
            size(0),
            "Storage",
            "Memory of all workers for metadata that searches found of late, so that it is not read again; 0: none.",
        ),
    )
    store_timeout_seconds: float = field(
        default=5.0,
        metadata=about(DURATION, "Storage", "A store that takes longer than this to answer counts as down."),
    )
    receipt_ttl_seconds: float = field(
        default=86_400.0,
        metadata=about(DURATION, "Storage", "How long an idempotency key is remembered."),
    )

    search_threads: int = field(
        default=0,
        metadata=about(
            integer(0, 1024), "Search", "Number of threads of each process that scan shards; 0: its share of the cores."
        ),
    )
    encoder_threads: int = field(
        default=0,
        metadata=about(
            integer(0, 1024),
            "Search",
            "Number of threads of the embedding model in each process; 0: its share of the cores.",
        ),
    )
    onnx_providers: tuple[OnnxProvider, ...] = field(
        default=(OnnxProvider.CPU,),
        metadata=about(
            choices(OnnxProvider),
            "Search",
            "What embeds texts, separated by commas, the preferred one first: cpu, cuda, tensorrt, rocm, migraphx, "
            "openvino, coreml, dml; what this ONNX Runtime lacks is skipped, which is logged.",
        ),
    )
    batching: bool = field(
        default=True,
        metadata=about(BOOLEAN, "Search", "Run searches that arrive together in one scan."),
    )
    head_rows: int = field(
        default=8_192,
        metadata=about(integer(16), "Search", "Number of rows that a growing segment holds before it is sealed."),
    )

    def __post_init__(self) -> None:
        placed = str(self.bundles_dir).replace("{data_dir}", str(self.data_dir))
        object.__setattr__(self, "bundles_dir", Path(placed))
        if self.shared_store and self.redis_url is None:
            raise InvalidOption(
                "shared_store is for services on one Redis or Valkey; set redis_url, or leave shared_store out: on "
                "SQLite several processes on one machine are `bebr serve --workers`",
                setting="shared_store",
            )

    @property
    def limits(self) -> Limits:
        """The part that the engine and the API need."""
        return Limits(**{limit.name: getattr(self, limit.name) for limit in fields(Limits)})

    @property
    def worker_count(self) -> int:
        """`workers`, or the number of cores."""
        return self.workers or machine.cores()

    @property
    def search_thread_count(self) -> int:
        """`search_threads`, or a worker's share of the cores."""
        return self.search_threads or self._cores_of_worker

    @property
    def encoder_thread_count(self) -> int:
        """`encoder_threads`, or a worker's share of the cores."""
        return self.encoder_threads or self._cores_of_worker

    @property
    def _cores_of_worker(self) -> int:
        return max(1, machine.cores() // self.worker_count)


def setting_fields() -> list[Field[Any]]:
    """All settings in the order of the docs: group by group, limits last."""
    return [f for f in fields(Settings) if f.metadata["group"] != "Limits"] + list(fields(Limits))
