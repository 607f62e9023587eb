"""The bundles of several models, made once."""

from tests.engine.upgrading import bundles

__all__ = ["bundles"]
