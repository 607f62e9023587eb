"""The real service in this process, on a free port, with SQLite in a temporary folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bebr.cli.service import Service
from bebr.config import Settings


@contextmanager
def running_service(folder: Path, **changes: Any) -> Iterator[Service]:
    given = {"data_dir": folder, "port": 0, "min_free_disk_bytes": 0, "head_rows": 256, "search_threads": 1}
    with Service(Settings(**(given | {"encoder_threads": 1} | changes))) as service:
        yield service
