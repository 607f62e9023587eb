"""The bundles that a command may name, by id or by folder, and where new ones are written."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bebr.cli.options import refuse

if TYPE_CHECKING:
    from bebr.encoding import Bundle, BundleRegistry


def registry_of(folder: Path) -> "BundleRegistry":
    """The bundles in a folder and those that come with bebr."""
    from bebr.encoding import BundleRegistry, shipped_bundles

    return BundleRegistry([folder, shipped_bundles()])


def bundles_folder(data_dir: Path | None, config: Path | None) -> Path:
    """The folder that new bundles are written to."""
    from bebr.cli.options import settings_from

    return settings_from(config, {"data_dir": data_dir}).bundles_dir


def open_registry(data_dir: Path | None, config: Path | None) -> "BundleRegistry":
    """The bundles of a data folder and those that come with bebr."""
    return registry_of(bundles_folder(data_dir, config))


def find_bundle(name: str, data_dir: Path | None, config: Path | None) -> "Bundle":
    """A bundle by its id, or by its folder when the name contains a /. Raises BundleNotFound, DamagedBundle."""
    from bebr.encoding import Bundle

    return Bundle.load(Path(name)) if "/" in name else open_registry(data_dir, config).get(name)


def check_folder_is_used(context: typer.Context, written: bool, *named: str | None) -> None:
    """Raise InvalidOption where the folder of bundles was given, though no bundle is written or looked for there.

    written: whether one is. named: bundles that are looked for; those with a / lie elsewhere.
    """
    if written or any(name is not None and "/" not in name for name in named):
        return
    for option in ("data_dir", "config"):
        refuse(context, option, "says where bundles are, and none is written or looked for there")


def check_dims(bundle: "Bundle", dims: int) -> None:
    """Raise DimensionMismatch unless the embeddings of a bundle have these dims."""
    from bebr.errors import DimensionMismatch

    if bundle.embedding_dims != dims:
        raise DimensionMismatch(
            f"bundle '{bundle.id}' makes embeddings of {bundle.embedding_dims} dims, the rows have {dims}"
        )


def check_embedding_model(bundle: "Bundle") -> None:
    """Raise InvalidOption unless a bundle has an embedding model that a new bundle can take over."""
    from bebr.errors import InvalidOption

    if not bundle.has_embedding_model:
        raise InvalidOption(f"bundle '{bundle.id}' has no embedding model to take over", option="base")


def name_of(data: Path) -> str:
    """The name of a bundle that is made from a file, unless another one is given."""
    from bebr.encoding.importing.pull import default_name

    return default_name(data.name.split(".")[0])
