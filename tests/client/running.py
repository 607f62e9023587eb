"""The real service in this process, on a free port, with SQLite in a temporary folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tests.encoding.importing.checkpoints import DIMS, write_checkpoint
from tests.engine.running import PATIENT
from tests.engine.two_models import text_bundle

from bebr.cli.server.running import Service
from bebr.config import Settings
from bebr.core.codes import CodeSpec
from bebr.encoding import BinarizerFiles, Bundle, write_bundle
from bebr.encoding.importing.checkpoint import import_checkpoint
from bebr.encoding.quantization.closed_form import fit
from bebr.encoding.quantization.closed_form_graph import to_onnx


@contextmanager
def running_service(folder: Path, **changes: Any) -> Iterator[Service]:
    given = {"data_dir": folder, "port": 0, "min_free_disk_bytes": 0, "head_rows": 256, "search_threads": 1} | PATIENT
    with Service(Settings(**(given | {"encoder_threads": 1} | changes))) as service:
        yield service


@contextmanager
def service_of_two_models(folder: Path) -> Iterator[Service]:
    """With the bundles old@1 and new@1, of which the second reaches the first."""
    bundles = folder / "bundles"
    text_bundle(bundles, "new@1", seed=1, old=text_bundle(bundles, "old@1", seed=0))
    with running_service(folder / "service", bundles_dir=bundles) as service:
        yield service


def tiny_text_bundle(folder: Path, scratch: Path, name: str = "minilm", version: str = "1") -> Bundle:
    """A bundle that takes texts: a model of random weights and a binarizer fitted to random embeddings."""
    model = import_checkpoint(write_checkpoint(scratch))
    embeddings = np.random.default_rng(0).standard_normal((200, DIMS)).astype(np.float32)
    fitted = fit(embeddings, CodeSpec.parse("32x2"), center=False)
    binarizer = BinarizerFiles(to_onnx(fitted), fitted.spec, fitted.steps, fitted.gain)
    return write_bundle(folder, name, version, embedding_dims=DIMS, binarizer=binarizer, embedding=model.files)
