"""Fetching a checkpoint from the Hugging Face hub: only the files that an import reads."""

import io
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, cast

import huggingface_hub
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from tqdm import tqdm

from bebr.encoding.importing.checkpoint import CHECKPOINT_FILES
from bebr.encoding.progress import Progress
from bebr.errors import BundleNotFound, InvalidCheckpoint, Unavailable

REPOSITORY_PATTERN = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")

NETWORK_ERRORS = cast(tuple[type[Exception], ...], (OSError, *HfHubHTTPError.__bases__))
"""The bases are the errors of whichever HTTP library this release of the hub's client uses."""


def fetch_checkpoint(
    repository: str, folder: Path, progress: Progress, *, revision: str | None = None, endpoint: str | None = None
) -> None:
    """Fetch the checkpoint files of `org/name` into `folder`; whole files that lie there are not fetched again.

    `endpoint` is the address of another hub than huggingface.co. `progress` counts bytes. Raises BundleNotFound where
    there is no such repository or revision, or no right to it; Unavailable when the hub does not answer.
    """
    try:
        sizes, commit = _list_files(repository, revision, endpoint)
        bars = _bars(sum(sizes.values()), f"fetch {repository}", progress)
        for name in sizes:
            huggingface_hub.hf_hub_download(
                repository, name, revision=commit, endpoint=endpoint, local_dir=folder, tqdm_class=bars
            )
    except (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError) as error:
        what = f"'{repository}'" + (f" at revision '{revision}'" if revision else "")
        raise BundleNotFound(
            f"the hub has no model {what}, or you have no right to it (log in with 'hf auth login'): "
            f"{str(error).splitlines()[0]}",
            id=repository,
        ) from error
    except NETWORK_ERRORS as error:
        raise Unavailable(
            f"fetching '{repository}' from the hub failed; what was fetched is kept, try again: {error}"
        ) from error


def _list_files(repository: str, revision: str | None, endpoint: str | None) -> tuple[dict[str, int], str]:
    """Names and sizes of the files to fetch, and the commit that the revision represents."""
    info = huggingface_hub.HfApi(endpoint=endpoint).model_info(repository, revision=revision, files_metadata=True)
    sizes = {
        file.rfilename: file.size or 0
        for file in info.siblings or []
        if any(_fits(file.rfilename, pattern) for pattern in CHECKPOINT_FILES)
    }
    if info.sha is None or "model.safetensors" not in sizes:
        raise InvalidCheckpoint(f"'{repository}' has no model.safetensors; it cannot be imported")
    return sizes, info.sha


def _fits(name: str, pattern: str) -> bool:
    """Match a pattern whose `*` does not reach over a slash."""
    return name.count("/") == pattern.count("/") and fnmatch(name, pattern)


def _bars(total: int, label: str, progress: Progress) -> Any:
    """A tqdm class that draws nothing and tells `progress` the bytes of all its bars together."""
    done = 0

    class Bar(tqdm):  # type: ignore[type-arg]  # The stubs are generic, the class is not.
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "file": io.StringIO(), "disable": False})
            self._count(self.initial)  # What an earlier try had fetched of this file.

        def update(self, n: float | None = 1) -> bool | None:
            self._count(n or 0)
            return super().update(n)

        def update_transfer(self, n: float) -> None:
            """Bytes on the wire are counted when they are written. With this method the hub opens no bar for them."""

        def set_transfer_postfix_str(self, postfix: str, refresh: bool = False) -> None:
            """Goes with `update_transfer`."""

        def _count(self, size_bytes: float) -> None:
            nonlocal done
            done += int(size_bytes)
            progress(min(done, total), total, label)

    return Bar
