"""One part of an encoding: its rows are read, encoded and written. The same part is the same bytes, whoever does it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from bebr.cli.bulk.plan import Plan, shares
from bebr.cli.files.columns import Target
from bebr.cli.files.reader import BLOCK_ROWS, WHOLE, Reader, Share
from bebr.cli.files.record_files import Rows, count_records, read_made, writing_records
from bebr.cli.files.sources import Sources
from bebr.cli.files.text_files import TextFile
from bebr.client import wire
from bebr.client.values import to_json
from bebr.core.decoding import parse_line
from bebr.core.rows import Row
from bebr.core.types import check_id
from bebr.disk import replacing_beside
from bebr.encoding import Bundle, TextKind
from bebr.encoding.bundles.bundle import no_embedding_model
from bebr.encoding.encoder import Encoder
from bebr.encoding.onnx.providers import choose_device
from bebr.engine.inputs import check_vector
from bebr.engine.results import ItemError
from bebr.engine.write.parse import Draft, Rules, Source, item_error, read_metadata, read_points
from bebr.errors import AlreadyExists, BebrError, Incompatible, InvalidOption, InvalidRequest, InvalidText

Progress = Callable[[int], None]
"""Called with how many rows were encoded or rejected so far."""


@dataclass(frozen=True, slots=True)
class PartReport:
    """What became of a part."""

    part: int
    encoded: int
    """Rows that are records now."""
    rejected: int
    """Rows that are named in the file beside it."""
    skipped: bool
    """Whether the part was there already."""


def open_encoder(plan: Plan) -> Encoder:
    """The encoder of a plan. Raises Incompatible where the bundle here is not that of the plan."""
    bundle = Bundle.load(plan.bundle_path)
    if bundle.fingerprint != plan.fingerprint:
        raise Incompatible(
            f"the bundle in {plan.bundle_path} has the fingerprint {bundle.fingerprint[:16]}..., and the encoding "
            f"began with {plan.fingerprint[:16]}..."
        )
    return Encoder(bundle, plan.threads, choose_device(plan.providers))


def find_part(plan: Plan, part: int) -> PartReport | None:
    """The report of a part that is there; None: it is not. Raises AlreadyExists where it is that of something else."""
    path = plan.path(part)
    if not path.exists():
        return None
    try:
        made = read_made(path)
    except InvalidRequest as error:
        raise AlreadyExists(f"{path} is there and cannot be read: {error.detail}; remove it") from error
    different = "not by `bebr encode`" if made is None else plan.made(part).difference(made)
    if different is not None:
        raise AlreadyExists(f"{path} is there, but {different}; give another --output, or remove it")
    rejected = plan.rejected_path(part)
    lines = rejected.read_bytes().count(b"\n") if rejected.exists() else 0
    return PartReport(part, count_records(path), lines, True)


def encode_part(plan: Plan, part: int, encoder: Encoder, progress: Progress = lambda _: None) -> PartReport:
    """Make a part, unless it is there. Raises AlreadyExists, and what reading the files raises."""
    if (found := find_part(plan, part)) is not None:
        return found
    sources = plan.sources()
    plan.output.mkdir(parents=True, exist_ok=True)
    rejected_path = plan.rejected_path(part)
    with replacing_beside(plan.path(part)) as file:
        with replacing_beside(rejected_path) as rejected, writing_records(file, plan.made(part)) as rows:
            work = _Part(plan, encoder, rows, rejected, progress)
            for reader, share, first in _shares(sources, part, plan.parts):
                work.encode_file(reader, share, first)
        if not work.rejected:  # before the part is there: a crash in between makes both again
            rejected_path.unlink(missing_ok=True)
    return PartReport(part, work.encoded, work.rejected, False)


def _shares(sources: Sources, part: int, parts: int) -> Iterator[tuple[Reader, Share, int]]:
    """(file, its rows in this part, how many rows the files before have, where that matters)."""
    found = list(zip(sources.readers, shares(sources.readers, part, parts), strict=True))
    last = max((n for n, (reader, share) in enumerate(found) if share and reader.numbers_ids), default=0)
    first = 0
    for number, (reader, share) in enumerate(found):
        if share is not None:
            yield reader, share, first
        if number < last:
            first += _count(reader)


def _count(reader: Reader) -> int:
    """How many rows a file has, as ids that are numbers of rows count them."""
    if reader.count is not None:
        return reader.count
    last = seen = 0
    try:
        for _, row in reader.numbered(Target(), 0, WHOLE):
            last, seen = row.line, seen + 1
    except InvalidRequest:
        pass  # the part that has the rest says so
    return last if isinstance(reader, TextFile) else seen


class _Part:
    """A part that is being made."""

    def __init__(self, plan: Plan, encoder: Encoder, rows: Rows, rejected: IO[bytes], progress: Progress) -> None:
        self._target = plan.target()
        self._encoder = encoder
        self._rules = Rules(
            spec=encoder.spec,
            steps=encoder.steps,
            fields={},
            takes_text=True,
            takes_codes=False,
            dims=encoder.embedding_dims,
            max_text_chars=plan.max_text_chars,
            max_metadata_bytes=plan.max_metadata_bytes,
            text_field=plan.keep_text,
        )
        self._rows = rows
        self._file = rejected
        self._progress = progress
        self.encoded = 0
        self.rejected = 0

    def encode_file(self, reader: Reader, share: Share, first: int) -> None:
        """The rows of a share. first: how many rows were in the files before."""
        block: list[Row] = []
        number = 0
        failed = None
        try:
            with reader.named():
                for row_number, row in reader.numbered(self._target, first, share):
                    if block and row_number // BLOCK_ROWS != number // BLOCK_ROWS:
                        self._encode(reader, block)
                        block = []
                    number = row_number
                    block.append(row)
        except InvalidRequest as error:  # the rest cannot be read; what came before is right
            if isinstance(error.__cause__, OSError):  # which says nothing of the file: another try may read it
                raise
            failed = error
        self._encode(reader, block)
        if failed is not None and share.turn == 0:  # others that have rows of this file need not say it again
            self._reject(reader, failed.fields.get("line"), item_error(0, None, failed))

    def _encode(self, reader: Reader, block: list[Row]) -> None:
        drafts: list[Draft] = []
        lines: list[int] = []
        for row in block:
            found = self._draft(row)
            if isinstance(found, Draft):
                drafts.append(found)
                lines.append(row.line)
            else:
                self._reject(reader, row.line, found)
        embeddings, errors = self._embed(drafts)
        for place in sorted(errors):
            self._reject(reader, lines[place], item_error(0, drafts[place].id, errors[place]))
        kept = [place for place in range(len(drafts)) if place not in errors]
        if kept:
            records = self._encoder.encode(embeddings[kept])
            some = [drafts[place] for place in kept]
            self._rows.add([draft.id for draft in some], records, [draft.metadata_text for draft in some])
            self.encoded += len(kept)
        self._progress(self.encoded + self.rejected)

    def _embed(self, drafts: list[Draft]) -> tuple[NDArray[np.float32], dict[int, BebrError]]:
        """(embeddings (drafts, dims) float32, what is wrong with some)."""
        embeddings = np.empty((len(drafts), self._encoder.embedding_dims), np.float32)
        errors: dict[int, BebrError] = {}
        for place, draft in enumerate(drafts):
            if draft.source is Source.VECTOR:
                embeddings[place] = draft.payload
        texts = [place for place, draft in enumerate(drafts) if draft.source is Source.TEXT]
        try:
            if texts:
                embeddings[texts] = self._encoder.embed([drafts[place].payload for place in texts], TextKind.PASSAGE)
        except InvalidText:  # of one that only the tokenizer refuses: each alone says which
            for place in texts:
                try:
                    embeddings[place] = self._encoder.embed([drafts[place].payload], TextKind.PASSAGE)[0]
                except InvalidText as error:
                    errors[place] = error
        return embeddings, errors

    def _draft(self, row: Row) -> Draft | ItemError:
        """A row by the rules of the service, whose checks these are."""
        point = row.point
        try:
            if isinstance(point, BebrError):
                raise point
            if not isinstance(point, bytes):
                vector = point.get("vector")
                if isinstance(vector, np.ndarray) and vector.ndim == 1 and vector.size and vector.dtype.kind in "fiu":
                    with np.errstate(over="ignore"):
                        unit = check_vector(np.asarray(vector, "<f4"), self._rules.dims)[0]
                    values = read_metadata(point.get("metadata"), self._rules)
                    return Draft(0, check_id(point["id"]), Source.VECTOR, unit, *values)
                point = to_json(wire.point_json(point))
            value = parse_line(point)
            if isinstance(value, dict):
                self._check_source(value)
        except BebrError as error:
            return item_error(0, row.point.get("id") if isinstance(row.point, dict) else None, error)
        drafts, errors = read_points([value], self._rules)
        return drafts[0] if drafts else errors[0]

    def _check_source(self, point: dict[str, object]) -> None:
        if point.get("code_b64") is not None:
            raise InvalidOption("expected a text or a vector to encode, got a code", key="code_b64")
        if point.get("text") is not None and not self._encoder.takes_text:
            raise no_embedding_model(self._encoder.bundle.manifest)

    def _reject(self, reader: Reader, line: int | None, error: ItemError) -> None:
        said = {"file": reader.name, "line": line, "id": error.id, "error": error.error, "detail": error.detail}
        self._file.write(to_json(said) + b"\n")
        self.rejected += 1
