"""The extra [train]: what needs it, and what to install where it is missing."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def train_extra() -> Iterator[None]:
    """Import modules of `bebr_training` inside. Raises InvalidOption where a package of the extra is missing."""
    from bebr.errors import InvalidOption

    try:
        yield
    except ModuleNotFoundError as error:
        raise InvalidOption(
            f"this command needs {error.name}, which is not installed: install bebr with the extra [train]"
        ) from error
