"""What a shard remembers on disk: which segments it has, which of their rows are alive, and up to which seq.

`shard.json` names the files, and the last operation that they hold by its mark, which tells later whether the store
still has it; it is replaced atomically. Everything with a seq up to its `seq` is in the segments;
masks may be newer, because replaying what follows changes nothing that is already applied.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from bebr.core.codes import CodeSpec
from bebr.core.history import Mark
from bebr.core.types import FieldType
from bebr.disk import identity, replace_file, replacing, sync_folder
from bebr.errors import DamagedSegment, NotReady
from bebr.index import segment_file
from bebr.index.segment import ANY_SIZE, Segment, SegmentView

NAME = "shard.json"
FORMAT = 1


def save(folder: Path, mark: Mark, segments: Sequence[SegmentView]) -> None:
    """Write the masks and then the manifest, and remove files that it no longer names."""
    entries = []
    for view in segments:
        entry = {"file": view.segment.path.name, "live": None, "live_count": view.live_count, "crc32": 0}
        if view.has_dead:
            data = view.live.tobytes()
            entry |= {
                "live": f"{view.segment.path.stem}-{crc32(data):08x}-{view.live_count}.live",
                "crc32": crc32(data),
            }
            path = folder / str(entry["live"])
            if not path.exists():
                with replacing(path, durable=False) as file:
                    file.write(data)
        entries.append(entry)
    body = json.dumps({"format": FORMAT, **mark._asdict(), "segments": entries})
    replace_file(folder / NAME, f"{crc32(body.encode()):08x} {body}".encode())
    named = {str(name) for entry in entries for name in (entry["file"], entry["live"])} | {NAME}
    for path in folder.iterdir():
        if path.name not in named:
            path.unlink()


def load(
    folder: Path, map_from_bytes: int = ANY_SIZE, known: Sequence[SegmentView] = (), shares: bool = False
) -> tuple[Mark, list[SegmentView]]:
    """The last operation of the last checkpoint, and its segments: (seq 0, []) where there is none.

    known: their segments are open already, and taken where the files are the same. What another process replaces
    meanwhile is read again. Raises DamagedSegment, NotReady.
    """
    open_of = {(view.segment.path.name, view.segment.written): view.segment for view in known}
    while True:
        read = written(folder)
        try:
            manifest = _read_manifest(folder) or {"seq": 0, "segments": []}
            segments = [_open(folder, entry, map_from_bytes, open_of, shares) for entry in manifest["segments"]]
        except (DamagedSegment, NotReady):
            if written(folder) == read:
                raise
        else:
            if written(folder) == read:
                return Mark(manifest.get("store", ""), manifest.get("epoch", ""), manifest["seq"]), segments


def check_fits(segment: Segment, specs: Mapping[int, CodeSpec], fields: Mapping[str, FieldType] | None) -> None:
    """Raise DamagedSegment where a segment is of other code versions, or has not the columns of these fields; None:
    whatever it has."""
    took_paths_for_keys = not segment.reads_paths and any("." in key for key in segment.fields)
    has_fields = fields is None or segment.fields == fields
    if specs.get(segment.version) != segment.spec or not has_fields or took_paths_for_keys:
        raise DamagedSegment(
            f"segment {segment.path.name} was written for other code versions or fields", segment=segment.path.name
        )


def written(folder: Path) -> tuple[int, ...] | None:
    """Tells a checkpoint from every later one, without reading it; None: there is none."""
    return identity(folder / NAME)


def _read_manifest(folder: Path) -> Any:
    """None where there is no checkpoint. Raises DamagedSegment."""
    try:
        text = (folder / NAME).read_bytes()
    except FileNotFoundError:
        return None
    checksum, _, body = text.partition(b" ")
    if checksum != f"{crc32(body):08x}".encode():
        raise DamagedSegment(f"{NAME} does not match its checksum", segment=NAME)
    manifest = json.loads(body)
    if manifest["format"] != FORMAT:
        raise DamagedSegment(f"{NAME} has format {manifest['format']}, this version reads {FORMAT}", segment=NAME)
    return manifest


def verify(folder: Path) -> Iterator[tuple[str, str | None]]:
    """Read all files of a shard -> (name, what is wrong with it or None) of each; they may be replaced meanwhile."""
    try:
        manifest = _read_manifest(folder)
    except DamagedSegment as error:
        yield NAME, error.detail
        return
    for entry in manifest["segments"] if manifest else ():
        damage = None
        try:
            segment_file.verify(folder / entry["file"])
            if entry["live"] is not None and crc32((folder / entry["live"]).read_bytes()) != entry["crc32"]:
                damage = f"mask {entry['live']} does not match its checksum"
        except (DamagedSegment, OSError) as error:
            damage = str(error)
        if damage is None or entry in (_read_manifest(folder) or manifest)["segments"]:
            yield entry["file"], damage


def rebuilt_folder(folder: Path) -> Path:
    """Where a shard is rebuilt, beside the folder of the one that is served."""
    return folder.with_name(f"{folder.name}.rebuilt")


def replace_folder(rebuilt: Path, folder: Path) -> None:
    """Put the files of a rebuilt shard in the place of others, which are deleted.

    A crash leaves `folder` as one of the two, or missing; `settle` finishes what was begun.
    """
    replaced = _replaced_folder(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        folder.rename(replaced)
    rebuilt.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def settle(folder: Path) -> None:
    """Finish a replacement that a crash cut short, and delete what a rebuild left that did not get so far."""
    rebuilt = rebuilt_folder(folder)
    if rebuilt.exists() and not folder.exists():
        rebuilt.rename(folder)
    for left in (rebuilt, _replaced_folder(folder)):
        shutil.rmtree(left, ignore_errors=True)


def _replaced_folder(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.replaced")


def _open(
    folder: Path,
    entry: dict[str, str | int | None],
    map_from_bytes: int,
    open_of: Mapping[tuple[str, tuple[int, ...] | None], Segment],
    shares: bool,
) -> SegmentView:
    path = folder / str(entry["file"])
    view = SegmentView.of(open_of.get((path.name, identity(path))) or Segment(path, map_from_bytes, shares))
    if entry["live"] is None:
        return view
    try:
        data = (folder / str(entry["live"])).read_bytes()
    except OSError as error:
        raise DamagedSegment(f"mask {entry['live']} cannot be read: {error}", segment=entry["live"]) from error
    if crc32(data) != entry["crc32"] or len(data) != view.live.nbytes:
        raise DamagedSegment(f"mask {entry['live']} does not match its checksum", segment=entry["live"])
    return SegmentView(view.segment, np.frombuffer(data, np.uint16), int(str(entry["live_count"])))
