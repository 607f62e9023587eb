"""`bebr encode`: files of texts or vectors become files of records, which `bebr ingest` sends."""

import json
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bebr.cli.options import AsJson, ConfigFile, DataDir, refuse
from bebr.cli.points.ingest import Delimiter, Flat, IdField, Ids, TextField, VectorField

if TYPE_CHECKING:
    from bebr.cli.bulk.part import PartReport
    from bebr.cli.bulk.plan import Plan
    from bebr.cli.files.columns import FileOptions
    from bebr.cli.files.sources import Sources
    from bebr.config import Settings
    from bebr.encoding import Bundle

SHOWN_ERRORS = 10


Input = Annotated[
    list[str],
    typer.Argument(
        help="Parquet, CSV, TSV, NDJSON, JSON, text, .npy or .fvecs, those of text optionally .gz; patterns; a folder "
        "with such files, or in the format of BEIR.",
        show_default=False,
    ),
]
BundleName = Annotated[
    str,
    typer.Option(
        "--bundle", help="Bundle that encodes: its id, such as minilm@2, or its folder, with a /.", show_default=False
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="Folder of the record files.", file_okay=False, show_default=False)
]
Part = Annotated[
    str | None,
    typer.Option("--part", help="Make only part i of n: 0/8 to 7/8, each by a process of its own.", metavar="I/N"),
]
Parts = Annotated[
    int | None,
    typer.Option(
        "--parts", help="How many parts, each a file.", min=1, max=99_999, show_default="one for each 16 MiB of files"
    ),
]
KeepText = Annotated[str | None, typer.Option(help="Metadata field that keeps the text of each point.")]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Threads of the embedding model.",
        min=1,
        max=1024,
        show_default="encoder_threads",
    ),
]
AllowRejected = Annotated[
    bool, typer.Option("--allow-rejected", help="Exit code 0 also where rows were rejected; a file names them.")
]


def encode(
    context: typer.Context,
    files: Input,
    bundle: BundleName,
    output: Output,
    part: Part = None,
    parts: Parts = None,
    keep_text: KeepText = None,
    id_field: IdField = None,
    text_field: TextField = None,
    vector_field: VectorField = None,
    flat: Flat = False,
    delimiter: Delimiter = None,
    ids: Ids = None,
    threads: Threads = None,
    allow_rejected: AllowRejected = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Encode texts or vectors to record files, without a service; `bebr ingest` then sends these as they are.

    Files are read as by `bebr ingest`. They are divided into parts, each of which becomes one Parquet file, written to
    another name first. A part that is there already is skipped, so the same command goes on where one was killed. The
    same part has the same bytes, whoever makes it. Rejected rows are named in a file beside it, _rejected-*.ndjson,
    and make exit code 1.
    """
    from bebr.cli.bulk.plan import check_folder, open_sources
    from bebr.cli.files.columns import FileOptions
    from bebr.cli.models.registry import find_bundle
    from bebr.cli.options import settings_from
    from bebr.cli.output import err, print_json, shown_progress
    from bebr.cli.points.ingest import text_fields

    if "/" in bundle:
        refuse(context, "data_dir", "says where bundles are, and the bundle lies elsewhere")
    options = FileOptions(id_field, text_fields(text_field), vector_field, flat, delimiter, _absolute(ids))
    names, sources = open_sources(files, options)
    found = find_bundle(bundle, data_dir, config)
    _check_source(sources, found, keep_text)
    wanted, count = _parts(part, parts, sources)
    check_folder(output, count)
    settings = settings_from(config, {"data_dir": data_dir})
    plan = _plan(names, sources, options, found, settings, output, count, keep_text, threads)
    for line in sources.said():
        err().print(line, markup=False)
    everywhere = [reader.count for reader in sources.readers] if part is None else [None]
    total = None if None in everywhere else sum(count or 0 for count in everywhere)
    with shown_progress("encoding") as shown:

        def show(rows: int) -> None:
            shown(rows, total, "encoding")

        reports = _encode_here(plan, wanted, show)
    totals = {name: sum(getattr(one, name) for one in reports) for name in ("encoded", "rejected", "skipped")}
    if as_json:
        print_json(
            {"output": str(output), "bundle": plan.bundle, "fingerprint": plan.fingerprint, "code": plan.code}
            | totals
            | {"parts": [asdict(one) for one in reports]}
        )
    else:
        _report(plan, reports, totals)
    if totals["rejected"] and not allow_rejected:
        sys.exit(1)


def _absolute(ids: str | None) -> str | None:
    return None if ids is None else str(Path(ids).absolute())


def _check_source(sources: "Sources", bundle: "Bundle", keep_text: str | None) -> None:
    """Raise InvalidOption where the bundle cannot encode what the files have, or no text is there to be kept."""
    from bebr.cli.files.text_files import TextFile
    from bebr.cli.files.vector_files import VectorFile
    from bebr.encoding.bundles.bundle import no_binarizer, no_embedding_model
    from bebr.errors import InvalidOption

    if not bundle.has_binarizer:
        raise no_binarizer(bundle.manifest)
    sources.check_texts(keep_text)
    for reader in sources.readers:
        columns = reader.columns
        has_texts = columns is not None and columns.vector is None
        if (has_texts or isinstance(reader, TextFile)) and not bundle.has_embedding_model:
            raise no_embedding_model(bundle.manifest)
        no_text = isinstance(reader, VectorFile) or (columns is not None and not columns.texts)
        if keep_text is not None and no_text:
            raise InvalidOption(f"--keep-text does not apply: {reader.name} has no texts", option="--keep-text")


def _parts(part: str | None, parts: int | None, sources: "Sources") -> tuple[Sequence[int], int]:
    """(the parts to make, how many there are)."""
    from bebr.cli.bulk.plan import MAX_PARTS, default_parts
    from bebr.errors import InvalidOption

    if part is None:
        count = parts or default_parts(sources)
        return range(count), count
    if parts is not None:
        raise InvalidOption("--part i/n says how many parts there are; leave --parts out", option="--parts")
    found = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", part)
    if found is None or not int(found[1]) < int(found[2]) <= MAX_PARTS:
        raise InvalidOption(f"--part: expected i/n with 0 <= i < n, such as 0/8 to 7/8, got '{part:.40}'")
    return [int(found[1])], int(found[2])


def _plan(
    names: Sequence[str],
    sources: "Sources",
    options: "FileOptions",
    bundle: "Bundle",
    settings: "Settings",
    output: Path,
    parts: int,
    keep_text: str | None,
    threads: int | None,
) -> "Plan":
    from bebr.cli.bulk.plan import plan_of

    return plan_of(
        names,
        sources,
        options,
        bundle,
        keep_text=keep_text,
        parts=parts,
        output=output.absolute(),
        threads=threads or settings.encoder_thread_count,
        providers=tuple(map(str, settings.onnx_providers)),
        max_text_chars=settings.max_text_chars,
        max_metadata_bytes=settings.max_metadata_bytes,
    )


def _encode_here(plan: "Plan", parts: Sequence[int], show: "Callable[[int], None]") -> "list[PartReport]":
    from bebr.cli.bulk.part import encode_part, find_part, open_encoder

    reports = [report for part in parts if (report := find_part(plan, part)) is not None]
    missing = sorted({*parts} - {report.part for report in reports})
    if not missing:  # the model need not be loaded
        return reports
    done = sum(report.encoded + report.rejected for report in reports)
    with closing(open_encoder(plan)) as encoder:
        for part in missing:
            before = done
            report = encode_part(plan, part, encoder, lambda rows, before=before: show(before + rows))  # type: ignore[misc]
            done += report.encoded + report.rejected
            reports.append(report)
    return sorted(reports, key=lambda report: report.part)


def _report(plan: "Plan", reports: "Sequence[PartReport]", totals: dict[str, int]) -> None:
    from bebr.cli.output import err, out

    made = len(reports) - totals["skipped"]
    there = f", {totals['skipped']:,} of them there already" if totals["skipped"] else ""
    parts = f"{len(reports):,} part{'' if len(reports) == 1 else 's'}{there}"
    rows = f"{totals['encoded']:,} rows encoded, {totals['rejected']:,} rejected"
    out().print(f"{rows}: {parts} of {plan.parts:,} in {plan.output}, by {plan.bundle}", markup=False)
    shown = 0
    for report in reports:
        if not report.rejected or shown >= SHOWN_ERRORS:
            continue
        path = plan.rejected_path(report.part)
        for line in path.read_text("utf-8").splitlines()[: SHOWN_ERRORS - shown]:
            error = json.loads(line)
            place = f"{error['file']}: row or line {error['line']}"
            err().print(f"{place}: {error['error']}: {error['detail']}", markup=False)
            shown += 1
    if totals["rejected"]:
        err().print(f"all rejected rows are named in {plan.output}/_rejected-*.ndjson", markup=False)
    if not made and not totals["rejected"]:
        err().print("nothing was left to do")
