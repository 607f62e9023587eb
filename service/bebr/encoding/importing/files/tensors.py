"""The tensors of a model.safetensors, each of the shape that config.json gives it."""

import re
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from bebr.core.arrays import Floats
from bebr.errors import InvalidCheckpoint


class Tensors:
    """The tensors of a model.safetensors."""

    def __init__(self, path: Path) -> None:
        try:
            stored = load_file(path)
        except Exception as error:  # SafetensorError is no public class, and the reader raises OSError as well.
            raise InvalidCheckpoint(f"{path.name} is not a safetensors file: {error}", file=path.name) from error
        # Checkpoints saved from a head for another task carry the encoder under a prefix.
        self._arrays = {
            re.sub(r"^(bert|roberta|distilbert|mpnet|model)\.", "", name): array for name, array in stored.items()
        }

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def take(self, name: str, *shape: int) -> Floats:
        """The tensor as float32. Raises InvalidCheckpoint when it is missing, of another shape, or not finite."""
        stored = self._arrays.get(name, self._arrays.get(_old_name(name)))
        if stored is None:
            raise InvalidCheckpoint(f"model.safetensors has no tensor '{name}'", tensor=name)
        array = stored.astype(np.float32)
        if array.shape != shape:
            raise InvalidCheckpoint(f"tensor '{name}' has shape {array.shape}, config.json says {shape}", tensor=name)
        if not np.isfinite(array).all():
            raise InvalidCheckpoint(f"tensor '{name}' holds NaN or infinity", tensor=name)
        return array


def _old_name(name: str) -> str:
    """The names that TensorFlow gave to the weights of a LayerNorm; early checkpoints still carry them."""
    return re.sub(r"(?<=LayerNorm\.)(weight|bias)\Z", lambda m: {"weight": "gamma", "bias": "beta"}[m[1]], name)
