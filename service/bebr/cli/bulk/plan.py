"""What is encoded with what, and which part each row belongs to: the same whoever looks, without reading the rows.

A file is cut into blocks of rows, which are encoded together in whatever part they are: an embedding depends, in its
last bits, on the texts that it is computed with. Where it is known how many rows there are, a part has a range of
blocks over all files; the blocks of other files are dealt out in turn.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bebr.cli.files.columns import FileOptions, Target
from bebr.cli.files.reader import BLOCK_ROWS, STDIN, Reader, Share
from bebr.cli.files.record_files import Made
from bebr.cli.files.sources import Sources
from bebr.cli.files.table_files import check_pyarrow
from bebr.encoding import Bundle
from bebr.errors import Conflict, InvalidOption

PART_BYTES = 16 << 20
"""Of the source, about, in a part where nobody says how many there are."""
MAX_PARTS = 99_999
ENDS_BYTES = 1 << 16
"""What is read at both ends of a file to tell it from another one; the statistics of Parquet are at its end."""
PART_NAME = re.compile(r"part-(\d{5})-of-(\d{5})\.parquet")


@dataclass(frozen=True, slots=True)
class Plan:
    """All that an encoding needs, so that another process can do any part of it."""

    files: tuple[str, ...]
    """As they were named, absolute."""
    options: FileOptions
    keep_text: str | None
    """Metadata field that keeps the text."""
    bundle_path: Path
    bundle: str
    fingerprint: str
    code: str
    parts: int
    columns: bool
    """See `Made`."""
    source: dict[str, Any]
    output: Path
    threads: int
    """Of the embedding model."""
    providers: tuple[str, ...]
    """What embeds texts, as the setting has it."""
    max_text_chars: int
    max_metadata_bytes: int

    def made(self, part: int) -> Made:
        return Made(
            bundle=self.bundle,
            fingerprint=self.fingerprint,
            code=self.code,
            part=part,
            parts=self.parts,
            columns=self.columns,
            source=self.source,
        )

    def path(self, part: int) -> Path:
        return self.output / f"part-{part:05}-of-{self.parts:05}.parquet"

    def rejected_path(self, part: int) -> Path:
        """Where the rows are named that were not encoded."""
        return self.output / f"_rejected-{part:05}-of-{self.parts:05}.ndjson"

    def target(self) -> Target:
        return Target(text_field=self.keep_text)

    def sources(self) -> Sources:
        """The files, opened. Raises Conflict where they are not those of the plan."""
        sources = Sources(self.files, self.options)
        if source_of(sources, self.options, self.keep_text) != self.source:
            raise Conflict("the files have changed since the encoding began, or are others on this machine")
        return sources


def default_parts(sources: Sources) -> int:
    """How many parts there are where nobody says it: it follows from the files alone."""
    return max(1, min(MAX_PARTS, -(-(sources.size_bytes or 0) // PART_BYTES)))


def open_sources(files: Sequence[str], options: FileOptions) -> tuple[tuple[str, ...], Sources]:
    """(the files by their absolute names, the same opened). Raises InvalidOption."""
    check_pyarrow()
    if STDIN in files:
        raise InvalidOption("stdin cannot be divided into parts; name files or a folder", option=STDIN)
    absolute = tuple(str(Path(file).absolute()) for file in files)
    return absolute, Sources(absolute, options)


def source_of(sources: Sources, options: FileOptions, keep_text: str | None) -> dict[str, Any]:
    """What tells these files, read in this way, from others."""
    said = {one.name: getattr(options, one.name) for one in fields(options)} | {"keep_text": keep_text}
    said = {name: list(value) if isinstance(value, tuple) else value for name, value in said.items() if value}
    if options.ids is not None:
        said["ids"] = _told_by(Path(options.ids))
    files = [_told_by(reader.path) for reader in sources.readers if reader.path is not None]
    return {"files": files, "options": said}


def shares(readers: Sequence[Reader], part: int, parts: int) -> list[Share | None]:
    """The rows of each file that a part has; None: it has none."""
    blocks = [-(-(reader.count or 0) // BLOCK_ROWS) for reader in readers]
    first, last = part * sum(blocks) // parts, (part + 1) * sum(blocks) // parts
    found: list[Share | None] = []
    before = dealt = 0
    for reader, count in zip(readers, blocks, strict=True):
        if reader.count is None:
            found.append(Share(turn=(part - dealt) % parts, turns=parts))
            dealt += 1
            continue
        start, stop = max(first - before, 0), min(last - before, count)
        rows = Share(start * BLOCK_ROWS, min(stop * BLOCK_ROWS, reader.count))
        found.append(rows if start < stop else None)
        before += count
    return found


def check_folder(output: Path, parts: int) -> None:
    """Raise Conflict where a folder has parts of another division: rows would be there twice."""
    for name in sorted(path.name for path in output.iterdir()) if output.is_dir() else ():
        found = PART_NAME.fullmatch(name)
        if found is not None and int(found[2]) != parts:
            raise Conflict(
                f"{output} has {name}, and this encoding has {parts} parts; give --parts {int(found[2])} to go on with "
                "it, or another --output"
            )


def plan_of(files: Sequence[str], sources: Sources, options: FileOptions, bundle: Bundle, **others: Any) -> Plan:
    """others: the fields of `Plan` that the caller says."""
    return Plan(
        files=tuple(files),
        options=options,
        bundle_path=bundle.path.absolute(),
        bundle=bundle.id,
        fingerprint=bundle.fingerprint,
        code=str(bundle.spec),
        columns=any(reader.columns is not None for reader in sources.readers),
        source=source_of(sources, options, others["keep_text"]),
        **others,
    )


def _told_by(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    with path.open("rb") as file:
        ends = file.read(ENDS_BYTES)
        file.seek(max(0, size - ENDS_BYTES))
        ends += file.read(ENDS_BYTES)
    return {"name": path.name, "size_bytes": size, "ends": hashlib.sha256(ends).hexdigest()}
