"""Compares an exported graph with the binarizer that it was made from, before anything is written."""

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from bebr.core.arrays import Floats, unit
from bebr.core.codes import split_records, unpack_levels
from bebr.encoding import BinarizerFiles
from bebr.encoding.quantization.binarizer import Binarizer
from bebr.encoding.quantization.recurrent import Recurrent
from bebr.errors import DamagedBundle
from bebr_training.binarizer.model import Published

WITHIN = 1e-5
"""A value this close to a boundary of the grid may fall on either side of it, because floats round differently."""
GAIN_WITHIN = 2e-3
"""Relative difference that gains may have."""


@dataclass(frozen=True)
class ExportCheck:
    """The result of a comparison."""

    rows: int
    """Rows that both encoded."""
    boundary_rows: int
    """Rows that differ because a value lay on a boundary of the grid."""


def check_export(files: BinarizerFiles, binarizer: Recurrent | Published, rows: Floats) -> ExportCheck:
    """Encode rows (rows, embedding_dims) with the graph and with the reference; compare levels and gains.

    Raises DamagedBundle when a row differs although none of its values lay within 1e-5 of a boundary of the grid.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "binarizer.onnx"
        path.write_bytes(files.graph)
        opened = Binarizer(path, files.spec.scan, binarizer.embedding_dims)
        codes, gains = split_records(opened.encode(rows), files.spec.scan)
    levels, expected_gains = binarizer.quantize(rows)
    differing = (unpack_levels(codes, files.spec) != levels).any(axis=1)
    margins = binarizer.margins if isinstance(binarizer, Published) else partial(boundary_margins, binarizer)
    near = margins(rows[differing]) <= WITHIN
    if not near.all():
        row = int(np.flatnonzero(differing)[int(near.argmin())])
        raise DamagedBundle(
            f"the exported graph and the trained binarizer give different levels for {int((~near).sum())} of "
            f"{len(rows)} rows, the first is row {row}; nothing was written",
            row=row,
        )
    off = np.abs(gains[~differing].astype(np.float32) / expected_gains[~differing].astype(np.float32) - 1)
    if (off > GAIN_WITHIN).any():
        raise DamagedBundle("the exported graph and the trained binarizer give different gains; nothing was written")
    return ExportCheck(len(rows), int(differing.sum()))


def boundary_margins(binarizer: Recurrent, rows: Floats) -> Floats:
    """(rows,) float32: the smallest distance, in grid cells, of any value of any loop from a boundary of the grid."""
    moves = binarizer.moves
    least = np.full(len(rows), np.inf, np.float32)
    residuals: Floats = unit(rows) @ binarizer.encoder - binarizer.offset
    points, targets = residuals @ binarizer.initial, residuals * moves.to_targets
    for hardness in binarizer.hardness:
        for block, pull in zip(moves.blocks, moves.pulls, strict=True):
            aims = cast(Floats, targets[:, block] - points @ pull)
            if aims.size:
                least = np.minimum(least, np.abs(aims - np.rint(aims)).min(axis=1))
            points[:, block] = moves.step(aims, moves.halves[block], np.float32(hardness))
    return least
