"""How long work tells how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called as progress(done, total, what is being done); `total` may grow. What it raises ends the work."""


def silent(done: int, total: int, label: str) -> None:
    """Progress that nobody watches."""
