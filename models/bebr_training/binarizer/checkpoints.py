"""The checkpoint file of a training run: written atomically, and only resumed with the preset that it was made with."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bebr.disk import replacing
from bebr.errors import InvalidOption
from bebr_training.binarizer.presets import Preset

FORMAT = 1


def save_checkpoint(path: Path, preset: Preset, content: dict[str, Any]) -> None:
    """Write a checkpoint: temporary file, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        torch.save({"format": FORMAT, "preset": _stored(preset), **content}, file)


def load_checkpoint(path: Path, preset: Preset) -> dict[str, Any] | None:
    """The content of a checkpoint; None without a file. Raises InvalidOption if it is damaged or of another preset."""
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
    except Exception as error:  # torch, pickle and zipfile raise what they like on a damaged file
        raise InvalidOption(f"'{path}' is not a checkpoint of bebr train: {error}; delete it to start over") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("preset") != _stored(preset):
        raise InvalidOption(
            f"'{path}' is the checkpoint of a run with other settings; delete it or choose another file"
        )
    return content


def _stored(preset: Preset) -> dict[str, Any]:
    """The preset as files of format 1 contain it, in which one field has an older name."""
    return {"neighbours" if name == "neighbors" else name: value for name, value in asdict(preset).items()}
