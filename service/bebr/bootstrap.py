"""Puts the parts together: settings in, engine or app out. The only place, with the CLI, that sees settings."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bebr.config import Settings
from bebr.core.types import Role
from bebr.disk import raise_open_files_limit
from bebr.encoding import BundleRegistry, shipped_bundles
from bebr.engine import Engine, EngineOptions, Parts
from bebr.store import MetadataStore

if TYPE_CHECKING:
    from bebr.jobs import JobQueue
    from bebr.server import ConnectionLimits, FastAPI, Team
    from bebr.store.backup.make import StoreReader


FOLLOWER_WAIT_SECONDS = 1.0
"""How long a read waits for the views of a worker that is not the primary."""


def build_store(settings: Settings, role: Role = Role.PRIMARY, *, shared: bool = False) -> MetadataStore:
    """Redis when a URL is set, else SQLite in the data folder. shared: with other services."""
    if settings.redis_url is not None:
        from bebr.store.redis.store import RedisStore

        return RedisStore(
            settings.redis_url,
            prefix=settings.redis_prefix,
            timeout_seconds=settings.store_timeout_seconds,
            receipt_ttl_seconds=settings.receipt_ttl_seconds,
            ack_replicas=settings.redis_ack_replicas,
            allow_volatile=settings.allow_volatile_store,
            folder=settings.data_dir / "store" if role is Role.PRIMARY else None,
            role=role,
            shared=shared,
            name=settings.member_name,
            tombstone_seconds=settings.tombstone_seconds,
        )
    from bebr.store.sqlite.store import SqliteStore

    return SqliteStore(
        settings.data_dir / "store",
        synchronous=settings.sqlite_synchronous.value,
        receipt_ttl_seconds=settings.receipt_ttl_seconds,
        point_cache_bytes=settings.point_cache_bytes // settings.worker_count,
        role=role,
    )


def build_reader(settings: Settings) -> "StoreReader":
    """What a backup reads: the same store, while a service may be writing to it."""
    if settings.redis_url is not None:
        from bebr.store.redis.reader import RedisReader
        from bebr.store.redis.store import RedisStore

        return RedisReader(
            RedisStore(settings.redis_url, prefix=settings.redis_prefix, timeout_seconds=settings.store_timeout_seconds)
        )
    from bebr.store.sqlite.reader import SqliteReader

    return SqliteReader(settings.data_dir / "store")


def build_engine(
    settings: Settings, role: Role = Role.PRIMARY, *, shares: bool = False, told_folder: Path | None = None
) -> Engine:
    """The engine, not started. shares: other processes follow it, in the same folder. told_folder: see
    `EngineOptions`."""
    shares = role is Role.PRIMARY and (shares or settings.worker_count > 1)
    raise_open_files_limit()
    options = EngineOptions(
        settings.search_thread_count,
        settings.encoder_thread_count,
        settings.head_rows,
        onnx_providers=settings.onnx_providers,
        batching=settings.batching,
        role=role,
        shares=shares,
        told_folder=told_folder,
        joins=settings.shared_store and role is Role.PRIMARY,
    )
    bundles = BundleRegistry([settings.bundles_dir, shipped_bundles()])
    store = build_store(settings, role, shared=settings.shared_store)
    return Engine(Parts(store, bundles, settings.data_dir, settings.limits, options))


def build_jobs(engine: Engine, settings: Settings) -> "JobQueue":
    """The jobs of an engine, which hear of its collections. Not started."""
    from bebr.jobs import JobQueue

    jobs = JobQueue(engine, settings.data_dir / "jobs", settings.limits)
    engine.events.on_change, engine.events.on_close = jobs.changed, jobs.closing
    return jobs


def build_app(settings: Settings, team: "Team | None" = None) -> "FastAPI":
    """The HTTP app; its lifespan starts and stops the engine and the jobs.

    team: the workers that this process is one of.
    """
    from bebr.server import ApiOptions, Primary, create_app

    follows = team is not None and not team.is_primary
    if follows:  # what takes longer the primary answers, see `server.workers.forwarding`
        settings = replace(settings, read_wait_seconds=min(settings.read_wait_seconds, FOLLOWER_WAIT_SECONDS))
    role, told_folder = Role.FOLLOWER if follows else Role.PRIMARY, None if team is None else team.folder
    engine = build_engine(settings, role, shares=team is not None and not follows, told_folder=told_folder)
    jobs = build_jobs(engine, settings)
    options = ApiOptions(
        settings.api_keys,
        settings.read_only_api_keys,
        settings.open_metrics,
        allowed_hosts=(*settings.allowed_hosts, settings.host),
        allowed_origins=settings.allowed_origins,
        key_requests_per_s=settings.key_requests_per_s,
        log_requests_per_s=settings.log_requests_per_s,
        connections=connection_limits(settings),
        slow_loop_seconds=settings.slow_loop_seconds,
        probe_address=(settings.host, settings.probe_port) if settings.probe_port and team is None else None,
        dead_loop_seconds=settings.dead_loop_seconds,
    )
    primary = Primary(team.primary_socket, settings.primary_wait_seconds) if team is not None and follows else None
    return create_app(engine, jobs, options, primary, team)


def connection_limits(settings: Settings) -> "ConnectionLimits":
    """What the connections of the service may take; half of the process's open files are left to everything else."""
    from bebr.server import ConnectionLimits

    descriptors = raise_open_files_limit()
    most = settings.max_connections if descriptors < 0 else min(settings.max_connections, descriptors // 2)
    return ConnectionLimits(
        max_header_bytes=settings.max_header_bytes,
        max_headers=settings.max_headers,
        header_timeout_seconds=settings.header_timeout_seconds,
        min_body_bytes_per_s=settings.min_body_bytes_per_s,
        keep_alive_seconds=settings.keep_alive_seconds,
        max_connections=most,
    )
