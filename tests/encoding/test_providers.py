"""What embeds texts: the processor where an accelerator is missing, which one line of the log says."""

import logging
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tests.encoding.importing.checkpoints import write_checkpoint

from bebr.bootstrap import build_engine
from bebr.config import Settings
from bebr.config.settings import OnnxProvider
from bebr.encoding import TextKind
from bebr.encoding.embedding.model import EmbeddingModel
from bebr.encoding.importing.pull import pull
from bebr.encoding.onnx.providers import CPU, CPU_ONLY, Device, choose_device

ABSENT = "cuda" if "CUDAExecutionProvider" not in onnxruntime.get_available_providers() else "coreml"


def test_the_processor_is_the_default_and_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_device(("cpu",)) == CPU_ONLY and CPU_ONLY.is_cpu
    assert not caplog.records


def test_what_is_missing_is_logged_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        device = choose_device((ABSENT, "cpu"))
    assert device.is_cpu and len(caplog.records) == 1
    assert ABSENT in caplog.text and CPU in caplog.text and "[gpu]" in caplog.text
    bundle = pull(str(write_checkpoint(tmp_path / "model")), tmp_path)
    texts = ["the quick brown fox", "parse"]
    found = EmbeddingModel(bundle, device=device).embed(texts, TextKind.QUERY)
    np.testing.assert_array_equal(found, EmbeddingModel(bundle).embed(texts, TextKind.QUERY))


def test_a_provider_that_does_not_start_is_logged_and_the_processors_batches_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """ONNX Runtime goes on with the next provider, as where a driver is missing."""
    bundle = pull(str(write_checkpoint(tmp_path / "model")), tmp_path)
    session = onnxruntime.InferenceSession(str(bundle.path / "embedding.onnx"), providers=[CPU])
    wanted = Device((("CUDAExecutionProvider", {}), (CPU, {})), 16_384)
    with caplog.at_level(logging.WARNING):
        used = wanted.check(session, bundle.id)
    assert used.is_cpu and used.batch_tokens == CPU_ONLY.batch_tokens
    assert len(caplog.records) == 1 and bundle.id in caplog.text and "CUDAExecutionProvider" in caplog.text


def test_the_setting_reaches_the_engine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        build_engine(Settings(data_dir=tmp_path, onnx_providers=(OnnxProvider(ABSENT), OnnxProvider.CPU)))
    assert f"has no provider {ABSENT}" in caplog.text
