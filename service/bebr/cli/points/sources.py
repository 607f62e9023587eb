"""Files as points. NDJSON is sent as it is, CSV and text line by line; no file is held in memory."""

import csv
import gzip
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from bebr.errors import InvalidOption, Malformed

NDJSON_ENDINGS = (".ndjson", ".jsonl")
KEPT_CHARS = 10_000
"""Longest text that metadata keeps: more than any model reads, so that the texts can be re-encoded from it."""
Source = Path | Iterable[Mapping[str, Any]]


def open_source(file: str, id_field: str = "id", text_field: str = "text") -> Source:
    """The source for `Client.ingest` of a file, by its suffix. Raises InvalidOption."""
    if file == "-":
        return lines_of_json(sys.stdin)
    path = Path(file)
    if not path.is_file():
        raise InvalidOption(f"there is no file '{file}'", file=file)
    ending = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if ending.lower() in NDJSON_ENDINGS:
        return path
    if ending.lower() == ".csv":
        return _rows_of_csv(path, id_field, text_field)
    if ending.lower() == ".txt":
        return _lines_of_text(path)
    raise InvalidOption(f"expected a .ndjson, .jsonl, .csv or .txt file, optionally .gz, got '{path.name}'", file=file)


def open_text(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), "utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def lines_of_json(lines: TextIO) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            point = json.loads(line)
        except ValueError as error:
            raise Malformed(f"line {number} is not valid JSON: {error}", line=number) from None
        if not isinstance(point, dict):
            raise Malformed(f"line {number} is not a JSON object", line=number)
        yield point


def _rows_of_csv(path: Path, id_field: str, text_field: str) -> Iterator[dict[str, Any]]:
    with open_text(path) as file:
        reader = csv.DictReader(file)
        if text_field not in (reader.fieldnames or ()):
            raise InvalidOption(
                f"'{path.name}' has no column '{text_field}', only {', '.join(reader.fieldnames or ())}; "
                "name the column with --text-field",
                column=text_field,
            )
        for number, row in enumerate(reader, 1):
            metadata = {key: value for key, value in row.items() if key not in (id_field, text_field, None) and value}
            yield {"id": row.get(id_field) or str(number), "text": row[text_field], "metadata": metadata}


def _lines_of_text(path: Path) -> Iterator[dict[str, Any]]:
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield {"id": str(number), "text": line.strip(), "metadata": {"text": line.strip()[:KEPT_CHARS]}}
