"""Files of tests, and what `Sources` makes of them."""

import json
from pathlib import Path
from typing import Any

from bebr.cli.files.columns import FileOptions, Target
from bebr.cli.files.sources import Sources

NO_TARGET = Target()


def points_of(
    *files: Path | str, target: Target = NO_TARGET, **options: Any
) -> tuple[dict[int, Any], list[dict[str, Any]]]:
    """(points by line of the body, what was rejected)."""
    sources = Sources([str(file) for file in files], FileOptions(**options))
    body = sources.body(target)
    text = body.read_bytes() if isinstance(body, Path) else b"".join(body)
    points = {number: json.loads(line) for number, line in enumerate(text.split(b"\n"), 1) if line}
    return points, sources.rejected.errors
