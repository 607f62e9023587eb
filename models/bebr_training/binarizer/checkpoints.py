"""The file in which a training run waits to be continued: written whole or not at all, and only for its own preset."""

from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from bebr.disk import replacing
from bebr.errors import InvalidOption
from bebr_training.binarizer.presets import Preset

FORMAT = 1


def save_checkpoint(path: Path, preset: Preset, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        torch.save({"format": FORMAT, "preset": asdict(preset), **content}, file)


def load_checkpoint(path: Path, preset: Preset) -> dict[str, Any] | None:
    """What was saved, or None when there is no file. Raises InvalidOption when it is damaged or of another preset."""
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, ValueError) as error:
        raise InvalidOption(f"'{path}' is not a checkpoint of bebr train: {error}; delete it to start anew") from error
    if content.get("format") != FORMAT or content.get("preset") != asdict(preset):
        raise InvalidOption(f"'{path}' is the checkpoint of a run with other settings; delete it, or use another file")
    return content
