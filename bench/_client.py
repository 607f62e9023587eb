"""Load by a client in C++, which takes a few microseconds a request: beside it, what is measured is the service.

Built with the C++ compiler of the machine when it is first used.
"""

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from bench._load import Load

SOURCE = Path(__file__).with_name("_client.cpp")


def send(port: int, requests: Sequence[bytes], *, connections: int, seconds: float, most: int = 1 << 60) -> Load:
    """Send `requests` over and over until `seconds` have passed or `most` were answered. Any status but 200 raises."""
    sent = b"".join(struct.pack("<I", len(request)) + request for request in requests)
    command = [str(_built()), str(port), str(connections), str(seconds), str(most)]
    done = subprocess.run(command, input=sent, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the client ended with {done.returncode}: {done.stderr.decode(errors='replace')[:2000]}")
    *latencies, total = np.frombuffer(done.stdout, np.float64).tolist()
    return Load(total, sorted(latencies))


@cache
def _built() -> Path:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise RuntimeError("a C++ compiler is needed for the client; install g++ or clang++")
    binary = Path(tempfile.mkdtemp(prefix="bebr-client-")) / "client"
    subprocess.run([compiler, "-O2", "-std=c++20", str(SOURCE), "-o", str(binary)], check=True)
    return binary
