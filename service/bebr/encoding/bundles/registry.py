"""The bundles on hand: those that were pulled or fitted, and those that come with bebr."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bebr.disk import HIDDEN
from bebr.encoding.bundles.bundle import Bundle
from bebr.encoding.bundles.contents import BinarizerFiles
from bebr.encoding.bundles.manifest_json import MANIFEST
from bebr.encoding.bundles.writer import write_bundle
from bebr.errors import BundleNotFound, DamagedBundle, Incompatible


class BundleRegistry:
    """The bundles in some folders. A bundle lies in a folder called by its id; of two with one id the first wins.

    Nothing is cached: a bundle that is pulled while the service runs is seen by the next call.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)

    def list(self) -> list[Bundle]:
        """The undamaged bundles by id. Checks sizes of files, not hashes; `get` checks these."""
        return [found for found in self._scan().values() if isinstance(found, Bundle)]

    def damaged(self) -> dict[str, DamagedBundle]:
        """The bundles that cannot be used, by folder name, each with its error."""
        return {name: found for name, found in self._scan().items() if isinstance(found, DamagedBundle)}

    def get(self, bundle_id: str, fingerprint: str | None = None) -> Bundle:
        """The bundle of that id, verified in full; with a fingerprint, the one that has it.

        A pulled bundle and the shipped one that it was made from share an id, and either may have made a code. Raises
        BundleNotFound (which lists what is there), DamagedBundle, Incompatible where none has the fingerprint.
        """
        found = [path for path in self._paths() if path.name == bundle_id]
        for path in found:
            bundle = _load_called(path, verify=fingerprint is None)
            if fingerprint is None:
                return bundle
            if bundle.fingerprint == fingerprint:
                return _load_called(path, verify=True)
        if found:
            raise Incompatible(
                f"no bundle '{bundle_id}' on hand is the one that made these codes: expected the fingerprint "
                f"{str(fingerprint)[:16]}...; put the original back",
                id=bundle_id,
                fingerprint=fingerprint,
            )
        known = ", ".join(f"'{name}'" for name in self._scan()) or "none"
        raise BundleNotFound(
            f"no bundle '{bundle_id:.120}'; on hand: {known}. Add one with 'bebr models pull' or 'bebr fit'",
            id=bundle_id,
        )

    def put_binarizer(
        self, bundle_id: str, embedding_dims: int, binarizer: BinarizerFiles, figures: Mapping[str, Any]
    ) -> Bundle:
        """Write a bundle of that id with a binarizer alone into the first folder, in place of what is there."""
        name, _, version = bundle_id.partition("@")
        return write_bundle(
            self.folders[0],
            name,
            version,
            embedding_dims=embedding_dims,
            binarizer=binarizer,
            figures=figures,
            replace=True,
        )

    def remove(self, bundle_id: str) -> None:
        """Remove the bundle of that id from the first folder; nothing happens when there is none."""
        shutil.rmtree(self.folders[0] / bundle_id, ignore_errors=True)

    def _scan(self) -> dict[str, Bundle | DamagedBundle]:
        found: dict[str, Bundle | DamagedBundle] = {}
        for path in self._paths():
            if path.name in found:
                continue
            try:
                found[path.name] = _load_called(path, verify=False)
            except DamagedBundle as error:
                found[path.name] = error
            except BundleNotFound:
                continue
        return dict(sorted(found.items()))

    def _paths(self) -> Iterator[Path]:
        for folder in self.folders:
            if folder.is_dir():
                yield from (path for path in sorted(folder.iterdir()) if _holds_bundle(path))


def shipped_bundles() -> Path:
    """The folder of the bundles that come with bebr: bebr/bundles in a wheel, models/bundles in a checkout."""
    package = Path(__file__).resolve().parents[2]
    packaged = package / "bundles"
    return packaged if packaged.is_dir() else package.parents[1] / "models" / "bundles"


def _holds_bundle(path: Path) -> bool:
    return not path.name.startswith(HIDDEN) and (path / MANIFEST).is_file()


def _load_called(path: Path, *, verify: bool) -> Bundle:
    """Load a bundle that must lie in a folder called by its id."""
    bundle = Bundle.load(path, verify=verify)
    if bundle.id != path.name:
        raise DamagedBundle(
            f"folder {path} holds bundle '{bundle.id}'; rename the folder to that", path=str(path), file=MANIFEST
        )
    return bundle
