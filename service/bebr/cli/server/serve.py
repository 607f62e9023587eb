"""`bebr serve`: run the service until Ctrl-C or SIGTERM."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from bebr.cli.options import ConfigFile, DataDir

if TYPE_CHECKING:
    from bebr.config import Settings

Host = Annotated[
    str | None, typer.Option(help="Address to listen on; 0.0.0.0 for all interfaces.", show_default="127.0.0.1")
]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.", show_default="8000")]
RedisUrl = Annotated[
    str | None, typer.Option(help="URL of a Redis or Valkey server to store points in, instead of SQLite.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; `bebr config` lists them.")
]


def serve(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    shared_store: Annotated[
        bool | None, typer.Option("--shared-store", help="Share the Redis store with other services that say so too.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of processes that answer; 0: one per core.", show_default="1")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
    config: ConfigFile = None,
    set: Set = None,
) -> None:
    """Run the service until Ctrl-C or SIGTERM."""
    from bebr.cli.options import settings_from
    from bebr.cli.output import err

    flags = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "redis_url": redis_url,
        "shared_store": shared_store,
        "workers": workers,
        "log_level": log_level,
        "log_format": log_format,
    }
    settings = settings_from(config, flags, set or ())
    run(settings, lambda url: err().print(ready_text(url, settings)))


def run(settings: "Settings", when_ready: Callable[[str], None]) -> None:
    """Start the service, call `when_ready` with its address, and serve until a signal."""
    from bebr.cli.server.starting import configure_logs

    configure_logs(settings.log_level, settings.log_format)
    if settings.worker_count > 1:
        from bebr.cli.server.workers.supervisor import supervise

        supervise(settings, when_ready)
    else:
        from bebr.cli.server.running import serve_alone

        serve_alone(settings, when_ready)


def ready_text(url: str, settings: "Settings") -> str:
    """The line that is printed once the service is ready."""
    import bebr
    from bebr.config.report import shown_value
    from bebr.config.settings import setting_fields

    redis = next(field for field in setting_fields() if field.name == "redis_url")
    store = shown_value(redis, settings.redis_url) if settings.redis_url else "SQLite"
    return (
        f"[bold]bebr {bebr.__version__}[/] is ready at [bold cyan]{url}[/]  "
        f"(a page to search at {url}/, the API at {url}/docs, data in {settings.data_dir.absolute()}, store {store})"
    )
