"""The instruction set is chosen once, and BEBR_KERNEL_ISA can force another."""

import os
import subprocess
import sys

import pytest
from tests.waiting import PATIENCE_SECONDS

from bebr.kernel import ISA_VARIABLE, _kernel

SCAN = """
import numpy as np
from bebr import kernel
from bebr.core.codes import CodeSpec
from bebr.core.scoring import DotQueries
spec = CodeSpec.parse("16x4+16x1")
rng = np.random.default_rng(7)
blocked = kernel.allocate(kernel.blocked_size_bytes(spec, 100))
kernel.pack(rng.integers(0, 256, (100, 10), dtype=np.uint8), spec, blocked, 0)
queries = DotQueries(rng.integers(-127, 128, (3, 32)).astype(np.int8), rng.random((3, 2)).astype(np.float32))
scores, rows = kernel.dot_top_k(blocked, np.ones(100, np.float16), 100, spec, queries, 5)
print(kernel.isa(), scores.tobytes().hex(), rows.tolist())
"""


def run_with_isa(isa: str, script: str = SCAN) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != ISA_VARIABLE}
    if isa:
        environment[ISA_VARIABLE] = isa
    return subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_every_isa_can_be_forced_and_gives_the_same_bytes() -> None:
    outputs = set()
    for isa in _kernel.supported_isas():
        done = run_with_isa(isa)
        assert done.returncode == 0, done.stderr
        used, _, results = done.stdout.partition(" ")
        assert used == isa
        outputs.add(results)
    assert len(outputs) == 1


def test_the_best_isa_is_the_default() -> None:
    assert run_with_isa("").stdout.split()[0] == _kernel.supported_isas()[0]
    assert _kernel.supported_isas()[-1] == "portable"


@pytest.mark.parametrize("isa", ["sse9", "AVX2"])
def test_an_unsupported_isa_is_an_error_that_lists_what_there_is(isa: str) -> None:
    done = run_with_isa(isa, "from bebr import kernel\nkernel.isa()")
    assert done.returncode != 0
    assert "InvalidOption" in done.stderr
    assert f"is '{isa}', but this machine supports: " in done.stderr
    assert "portable" in done.stderr
