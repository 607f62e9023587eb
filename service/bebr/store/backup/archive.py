"""Archive: one tar file. Its members are gzipped JSON; the last one is the manifest, without which it is not complete.

    documents.json.gz                       {kind: {name: document}}
    <uid>/shard-<number>/<page>.json.gz     {"ids", "versions", "records" (base64), "metadata" (JSON texts)}
    <uid>/<kind>/<name>.json.gz             a document of the collection that is too large for the others (format 2)
    manifest.json                           format, collections, members with their sizes and SHA-256

A deleted point has null for record and metadata. The pages of a shard are in order: what a later one says of an id
replaces what an earlier one said.
"""

import gzip
import io
import json
import tarfile
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from bebr.core.operations import FeedEntry
from bebr.disk import replacing
from bebr.errors import Damaged

FORMAT = 2
FORMATS = (1, FORMAT)
"""That can be read."""
MANIFEST = "manifest.json"
DOCUMENTS = "documents.json.gz"
SHARD, ENDING = "shard-", ".json.gz"
COMPRESSION = 1
"""Records do not shrink, and metadata does at the first level already."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file in the archive."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ShardContent:
    """What the archive has of a shard."""

    seq: int
    """The shard is as it was right after this operation."""
    points: int | None
    """Living points; None where the store was written to without a pause."""
    pages: int


@dataclass(frozen=True, slots=True)
class CollectionContent:
    """What the archive has of a collection."""

    name: str
    uid: str
    shards: list[ShardContent]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive holds."""

    created_at: str
    bebr: str
    """The release that made it."""
    collections: list[CollectionContent]
    left_out: list[str]
    """Names of collections that could not be read."""
    members: list[Member]
    """All but the manifest, in order."""


class ArchiveWriter:
    """Adds members to a tar file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self.members: list[Member] = []

    def add_documents(self, documents: dict[str, dict[str, Any]]) -> None:
        self._add(DOCUMENTS, _pack(documents))

    def add_page(self, uid: str, shard: int, page: int, entries: Sequence[FeedEntry]) -> None:
        columns = {
            "ids": [entry.id for entry in entries],
            "versions": [entry.version for entry in entries],
            "records": [None if entry.record is None else b64encode(entry.record).decode() for entry in entries],
            "metadata": [entry.metadata for entry in entries],
        }
        self._add(page_name(uid, shard, page), _pack(columns))

    def add_document(self, uid: str, kind: str, name: str, document: dict[str, Any]) -> None:
        self._add(f"{uid}/{kind}/{name}{ENDING}", _pack(document))

    def finish(self, manifest: Manifest) -> None:
        text = json.dumps({"format": FORMAT} | asdict(manifest), indent=1, ensure_ascii=False).encode()
        self._add(MANIFEST, text)
        self._tar.close()

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Where the block raises, what it added is taken out again."""
        offset, count = self._tar.offset, len(self.members)
        try:
            yield
        except BaseException:
            self._file.seek(offset)
            self._file.truncate()
            self._tar.offset = offset
            del self.members[count:]
            raise

    def _add(self, name: str, content: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), 0o600
        self._tar.addfile(info, io.BytesIO(content))
        self._tar.members = []  # type: ignore[attr-defined]  # it would keep them all
        self.members.append(Member(name, len(content), sha256(content).hexdigest()))


@contextmanager
def writing(path: Path) -> Iterator[ArchiveWriter]:
    """A new archive that takes its name when it is whole; where the block raises, nothing has changed."""
    with replacing(path) as file:
        yield ArchiveWriter(file)


def check_archive(path: Path) -> Manifest:
    """Read the whole archive and compare it with its manifest. Raises Damaged."""
    found: list[Member] = []
    manifest: bytes | None = None
    for name, content in _contents(path):
        if manifest is not None:
            raise _damaged(path, "something follows its manifest")
        if name == MANIFEST:
            manifest = content
        else:
            found.append(Member(name, len(content), sha256(content).hexdigest()))
    if manifest is None:
        raise _damaged(path, "it has no manifest: it was cut short, or is no backup of bebr")
    read = _read_manifest(path, manifest)
    for expected, member in zip(read.members, found, strict=False):
        if expected != member:
            raise _damaged(path, f"'{member.name}' is not what the manifest says ('{expected.name}')")
    if len(read.members) != len(found):
        raise _damaged(path, f"it has {len(found)} members, and its manifest {len(read.members)}")
    return read


def read_archive(path: Path) -> Iterator[tuple[str, Any]]:
    """(name, content) of all members but the manifest, in order."""
    for name, content in _contents(path):
        if name != MANIFEST:
            try:
                yield name, json.loads(gzip.decompress(content))
            except (OSError, EOFError, ValueError) as error:
                raise _damaged(path, f"'{name}' cannot be read: {error}") from error


def read_page(content: dict[str, Any]) -> list[FeedEntry]:
    """The inverse of `add_page`. Archives do not say seqs: whoever restores gives new ones."""
    columns = (content["ids"], content["versions"], content["records"], content["metadata"])
    return [
        FeedEntry(0, point_id, version, None if record is None else b64decode(record), metadata)
        for point_id, version, record, metadata in zip(*columns, strict=True)
    ]


def page_name(uid: str, shard: int, page: int) -> str:
    return f"{uid}/{SHARD}{shard}/{page:06}{ENDING}"


def read_name(name: str) -> tuple[str, int | str, str]:
    """The name of a member other than the documents and the manifest -> uid, number of a shard or kind, the rest."""
    uid, kind, rest = name.split("/")
    rest = rest.removesuffix(ENDING)
    return uid, int(kind.removeprefix(SHARD)) if kind.startswith(SHARD) else kind, rest


def _pack(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return gzip.compress(text, COMPRESSION, mtime=0)


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path, "r:") as tar:
            while (info := tar.next()) is not None:
                file = tar.extractfile(info)
                content = b"" if file is None else file.read()
                if file is None or len(content) != info.size:
                    raise _damaged(path, f"'{info.name}' is cut short, or is no file")
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                yield info.name, content
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def _read_manifest(path: Path, text: bytes) -> Manifest:
    try:
        kept = json.loads(text)
        if kept.pop("format") not in FORMATS:
            raise ValueError(
                f"this release reads formats up to {FORMAT}; restore it with the release that made it or a newer"
            )
        collections = [
            CollectionContent(item["name"], item["uid"], [ShardContent(**shard) for shard in item["shards"]])
            for item in kept.pop("collections")
        ]
        members = [Member(**member) for member in kept.pop("members")]
        return Manifest(collections=collections, members=members, **kept)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"its manifest cannot be read: {error}") from error


def _damaged(path: Path, reason: str) -> Damaged:
    return Damaged(f"{path} is no whole backup: {reason}; use another one", path=str(path))
