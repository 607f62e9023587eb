"""A tiny bundle of real files: a BERT of random weights and a binarizer fitted to what it embeds."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tests.encoding.importing.checkpoints import DIMS, WORDS, write_checkpoint
from tests.server.service import DOCS

from bebr.core.codes import CodeSpec
from bebr.encoding import BinarizerFiles, Bundle, TextKind, write_bundle
from bebr.encoding.encoder import Encoder
from bebr.encoding.importing.checkpoint import import_checkpoint
from bebr.encoding.quantization.closed_form import fit
from bebr.encoding.quantization.closed_form_graph import to_onnx

SPEC = CodeSpec.parse("32x4")
"""Fine enough that a text is nearer to itself than to any other, which random weights make no easy thing."""
TINY = "tiny@1"
TEXTS = ["a quick brown fox", "parse a date", "binary codes", "search the lazy dog", "time string"]


def write_tiny_bundle(folder: Path, scratch: Path) -> Bundle:
    """Write `tiny@1` into `folder`: it embeds texts in 32 dims and makes codes of 16 bytes."""
    model = import_checkpoint(write_checkpoint(scratch / "checkpoint"))
    embedder = Encoder(write_bundle(scratch, "texts", "1", embedding_dims=DIMS, embedding=model.files))
    chosen = np.random.default_rng(0).choice(WORDS[:-4], (500, 4))
    binarizer = fit(embedder.embed([" ".join(words) for words in chosen], TextKind.PASSAGE), SPEC, center=True)
    files = BinarizerFiles(to_onnx(binarizer), SPEC, binarizer.steps)
    return write_bundle(folder, "tiny", "1", embedding_dims=DIMS, binarizer=files, embedding=model.files)


async def best(client: httpx.AsyncClient, **body: Any) -> str:
    """Id of the best hit of a search."""
    answer = await client.post(f"{DOCS}/search", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["hits"][0]["id"])
