"""What embeds texts: the processor, or an accelerator that ONNX Runtime knows (its "execution providers").

Binarizers and adapters always run on the processor: they are small, and their codes must be the same everywhere.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnxruntime


log = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
CPU_BATCH_TOKENS = 512
"""Padded tokens of a sub-batch: fewer leave the cores idle between operators, more fall out of their caches."""
GPU_BATCH_TOKENS = 16_384
"""Of an accelerator, which wants much work at once."""


@dataclass(frozen=True)
class _Provider:
    """An execution provider."""

    name: str
    """What ONNX Runtime calls it."""
    batch_tokens: int = GPU_BATCH_TOKENS
    """Padded tokens of a sub-batch."""
    options: Mapping[str, Any] = field(default_factory=dict)


# Products in TF32 have 10 bits after the point: embeddings would differ from those of the processor in many codes.
_EXACT = {"use_tf32": "0"}
_PROVIDERS = {
    "cpu": _Provider(CPU, CPU_BATCH_TOKENS),
    "cuda": _Provider("CUDAExecutionProvider", options=_EXACT),
    "tensorrt": _Provider("TensorrtExecutionProvider"),
    "rocm": _Provider("ROCMExecutionProvider"),
    "migraphx": _Provider("MIGraphXExecutionProvider"),
    "openvino": _Provider("OpenVINOExecutionProvider", 4 * CPU_BATCH_TOKENS),
    "coreml": _Provider("CoreMLExecutionProvider", 4 * CPU_BATCH_TOKENS),
    "dml": _Provider("DmlExecutionProvider"),
}
"""By the name in settings."""


@dataclass(frozen=True)
class Device:
    """Where a model runs."""

    providers: tuple[tuple[str, Mapping[str, Any]], ...] = ((CPU, {}),)
    """Names and options as ONNX Runtime takes them, the preferred one first; the processor is the last."""
    batch_tokens: int = CPU_BATCH_TOKENS
    """Padded tokens of a sub-batch."""

    @property
    def is_cpu(self) -> bool:
        return self.providers[0][0] == CPU

    def check(self, session: "onnxruntime.InferenceSession", model: str) -> "Device":
        """Where a session runs, which is the processor if the accelerator did not start; that is logged."""
        used = session.get_providers()[0]
        if used == self.providers[0][0]:
            return self
        log.warning(
            "model %s runs with %s, as %s could not be started: its driver or libraries are missing",
            model,
            used,
            self.providers[0][0],
        )
        batch_tokens = next((one.batch_tokens for one in _PROVIDERS.values() if one.name == used), CPU_BATCH_TOKENS)
        return Device(((used, {}),), batch_tokens)


CPU_ONLY = Device()


def choose_device(names: Sequence[str]) -> Device:
    """The providers that this ONNX Runtime has, in order, the processor last; what is missing is logged, in one line.

    names: as settings have them.
    """
    if set(names) <= {"cpu"}:
        return CPU_ONLY
    import onnxruntime  # only where it is needed: its library takes memory and starts a thread

    available = set(onnxruntime.get_available_providers())
    found = [_PROVIDERS[name] for name in names if _PROVIDERS[name].name in available]
    missing = [name for name in names if _PROVIDERS[name].name not in available]
    found = found or [_PROVIDERS["cpu"]]
    if missing:
        log.warning(
            "this ONNX Runtime has no provider %s; texts are embedded with %s. For CUDA install the extra [gpu]",
            ", ".join(missing),
            found[0].name,
        )
    providers = [(one.name, dict(one.options)) for one in found]
    if CPU not in (one.name for one in found):
        providers.append((CPU, {}))
    return Device(tuple(providers), found[0].batch_tokens)
