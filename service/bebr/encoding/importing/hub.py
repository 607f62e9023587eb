"""Fetching a model from the Hugging Face hub: only the files that an import reads."""

import io
import re
from collections.abc import Callable, Collection
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, cast

import huggingface_hub
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from tqdm import tqdm

from bebr.encoding.importing.checkpoint import CONFIG, SMALL_FILES, WEIGHTS
from bebr.encoding.importing.files.tokenizer_file import TOKENIZER
from bebr.encoding.importing.options import ImportOptions
from bebr.encoding.importing.ready.choice import PATTERNS, choose_graph
from bebr.encoding.importing.ready.reading import external_files
from bebr.encoding.importing.source import is_built
from bebr.encoding.progress import Progress
from bebr.errors import BundleNotFound, InvalidCheckpoint, Unavailable

REPOSITORY_PATTERN = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")

NETWORK_ERRORS = cast(tuple[type[Exception], ...], (OSError, *HfHubHTTPError.__bases__))
"""The bases are the errors of whichever HTTP library this release of the hub's client uses."""


def fetch_model(
    repository: str,
    folder: Path,
    options: ImportOptions,
    progress: Progress,
    *,
    revision: str | None = None,
    endpoint: str | None = None,
) -> None:
    """Fetch the files of `org/name` that an import reads into `folder`; whole files that lie there stay.

    `endpoint` is the address of another hub than huggingface.co. `progress` counts bytes. Raises BundleNotFound where
    there is no such repository or revision, or no right to it; Unavailable when the hub does not answer.
    """
    try:
        sizes, commit = _list_files(repository, revision, endpoint)
        bars = _Bars(f"fetch {repository}", progress)

        def fetch(names: Collection[str], later: Collection[str] = ()) -> None:
            bars.expect(sum(sizes[name] for name in (*names, *later)))
            for name in names:
                huggingface_hub.hf_hub_download(
                    repository, name, revision=commit, endpoint=endpoint, local_dir=folder, tqdm_class=bars.bar
                )

        _fetch_needed(repository, folder, options, sizes, fetch)
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


def _fetch_needed(
    repository: str,
    folder: Path,
    options: ImportOptions,
    names: Collection[str],
    fetch: Callable[..., None],
) -> None:
    """The files of text first, for they say which of the large ones is meant.

    fetch: takes the names of files, and of those that likely come after them.
    """
    if WEIGHTS not in names and not any(name.endswith(".onnx") for name in names):
        raise InvalidCheckpoint(f"'{repository}' has no {WEIGHTS} and no ONNX file; it cannot be imported")
    weights = [WEIGHTS] if WEIGHTS in names else []
    fetch([name for name in names if any(_fits(name, pattern) for pattern in SMALL_FILES)], weights)
    if is_built(folder, options, names):
        fetch(weights)
        return
    graph = choose_graph([name for name in names if any(_fits(name, pattern) for pattern in PATTERNS)], options)
    beside = str(PurePosixPath(graph).parent)
    fetch([graph, *(name for name in names if name in {f"{beside}/{part}" for part in (CONFIG, TOKENIZER)})])
    outside = sorted(external_files(folder / graph, graph))
    if missing := [name for name in outside if name not in names]:
        raise InvalidCheckpoint(f"'{repository}' has no file {missing[0]}, which {graph} names", file=missing[0])
    fetch(outside)


def _list_files(repository: str, revision: str | None, endpoint: str | None) -> tuple[dict[str, int], str]:
    """Names and sizes of all files, and the commit that the revision represents."""
    info = huggingface_hub.HfApi(endpoint=endpoint).model_info(repository, revision=revision, files_metadata=True)
    if info.sha is None:
        raise InvalidCheckpoint(f"the hub names no commit of '{repository}'")
    return {file.rfilename: file.size or 0 for file in info.siblings or []}, info.sha


def _fits(name: str, pattern: str) -> bool:
    """Match a pattern whose `*` does not reach over a slash."""
    return name.count("/") == pattern.count("/") and fnmatch(name, pattern)


class _Bars:
    """Tells `progress` the bytes of all downloads together."""

    def __init__(self, label: str, progress: Progress) -> None:
        self._label = label
        self._progress = progress
        self._done = 0
        self._total = 0
        self.bar = self._make_class()
        """A tqdm class that draws nothing."""

    def expect(self, size_bytes: int) -> None:
        """So many bytes come beside those that have come."""
        self._total = self._done + size_bytes

    def _make_class(self) -> Any:
        count = self._count

        class Bar(tqdm):  # type: ignore[type-arg]  # The stubs are generic, the class is not.
            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **{**options, "file": io.StringIO(), "disable": False})
                count(self.initial)  # What an earlier try had fetched of this file.

            def update(self, n: float | None = 1) -> bool | None:
                count(n or 0)
                return super().update(n)

            def update_transfer(self, n: float) -> None:
                """Bytes are counted when they are written. With this method the hub opens no bar for the wire."""

            def set_transfer_postfix_str(self, postfix: str, refresh: bool = False) -> None:
                """Goes with `update_transfer`."""

        return Bar

    def _count(self, size_bytes: float) -> None:
        self._done += int(size_bytes)
        self._progress(min(self._done, self._total), self._total, self._label)
