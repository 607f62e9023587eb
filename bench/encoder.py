"""Texts per second, latency and load time of the embedding model, fp32 and int8.

    python bench/encoder.py                 the table
    python bench/encoder.py --sweep         padded tokens a sub-batch: which size is best
    python bench/encoder.py --source PATH   another checkpoint than minilm

On a shared machine read the column "per CPU-second": wall times count what other processes do.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from bebr.encoding import Bundle, Precision, TextKind
from bebr.encoding.embedding.model import EmbeddingModel
from bebr.encoding.importing.options import ImportOptions
from bebr.encoding.importing.pull import PullOptions, pull

VOCABULARY = (
    "return the number of days in month parse date string value error list object file path when given name index "
    "function class method raise key open read write line module default argument iterator sequence mapping type"
)


def texts_of(words: tuple[int, int], count: int) -> list[str]:
    """Texts of English words, about one token each, of random length."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(VOCABULARY.split(), rng.integers(*words))) for _ in range(count)]


SHORT = texts_of((6, 15), 512)
LONG = texts_of((50, 100), 96)


def rates(work: Callable[[], object], texts: int, rounds: int) -> tuple[float, float]:
    """Median texts per second and per CPU-second."""
    work()
    wall, cpu = [], []
    for _ in range(rounds):
        start, start_cpu = time.perf_counter(), time.process_time()
        work()
        wall.append(texts / (time.perf_counter() - start))
        cpu.append(texts / (time.process_time() - start_cpu))
    return median(wall), median(cpu)


def measure(bundle: Bundle, rounds: int) -> None:
    start = time.perf_counter()
    Bundle.load(bundle.path)
    verified = time.perf_counter()
    model = EmbeddingModel(bundle)
    print(f"{bundle.id}: verify {verified - start:.2f} s, load {time.perf_counter() - verified:.2f} s")
    for label, text in (("short", SHORT[0]), ("long", LONG[0])):
        model.embed([text], TextKind.QUERY)
        times = []
        for _ in range(20 * rounds):
            start = time.process_time()
            model.embed([text], TextKind.QUERY)
            times.append(1000 * (time.process_time() - start))
        print(f"  one {label:5} text alone: {median(times):.2f} ms of CPU, best {min(times):.2f} ms")
    for threads in (1, 2):
        model = EmbeddingModel(bundle, threads)
        for label, texts in (("short", SHORT), ("long", LONG)):
            wall, cpu = rates(lambda m=model, t=texts: m.embed(t, TextKind.PASSAGE), len(texts), rounds)
            print(f"  {threads} threads, {label:5} texts in bulk: {wall:6.0f} /s, {cpu:6.0f} per CPU-second")
        model.close()


def sweep(bundle: Bundle, rounds: int) -> None:
    for tokens in (64, 128, 256, 512, 1024, 2048, 4096):
        model = EmbeddingModel(bundle, batch_tokens=tokens)
        cells = [
            f"{label} {rates(lambda m=model, t=texts: m.embed(t, TextKind.PASSAGE), len(texts), rounds)[1]:6.0f}"
            for label, texts in (("short", SHORT), ("long", LONG))
        ]
        print(f"  {bundle.id} {tokens:5} tokens a sub-batch: {', '.join(cells)} per CPU-second", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="minilm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sweep", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for precision in (Precision.FP32, Precision.INT8):
            pulled = pull(options.source, Path(folder), PullOptions(model=ImportOptions(precision=precision)))
            (sweep if options.sweep else measure)(pulled, options.rounds)


if __name__ == "__main__":
    main()
