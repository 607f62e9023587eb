"""Rows per CPU second: `bebr encode` against the bare encoder, on the same texts with the same threads.

    python -m bench.encode [--rows 2048] [--rounds 3] [--threads 1]

The bare encoder embeds and encodes texts that lie in memory, in the same blocks. `bebr encode` reads them from Parquet,
checks them, encodes them and writes record files. Both are measured in turns, in one process, by its CPU time, so that
other processes count little; to load the model is not counted for either.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as parquet
from bench.encoder import texts_of

from bebr.cli.bulk.part import encode_part, open_encoder
from bebr.cli.bulk.plan import open_sources, plan_of
from bebr.cli.files.columns import NO_OPTIONS
from bebr.cli.files.reader import BLOCK_ROWS
from bebr.encoding import BundleRegistry, TextKind
from bebr.encoding.encoder import Encoder
from bebr.encoding.importing.pull import pull


def rate(work: Callable[[], object], rows: int) -> tuple[float, float]:
    """Rows per second, and per CPU second."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return rows / (time.perf_counter() - start), rows / (time.process_time() - cpu)


def bare(encoder: Encoder, texts: Sequence[str]) -> None:
    for start in range(0, len(texts), BLOCK_ROWS):
        encoder.encode(encoder.embed(texts[start : start + BLOCK_ROWS], TextKind.PASSAGE))


def measure(folder: Path, rows: int, rounds: int, threads: int) -> None:
    texts = texts_of((5, 60), rows)
    table = pa.table({"id": [f"p{n}" for n in range(rows)], "text": texts, "year": list(range(rows))})
    parquet.write_table(table, folder / "in.parquet")
    bundle = BundleRegistry([folder]).get(pull("minilm", folder).id)
    names, sources = open_sources([str(folder / "in.parquet")], NO_OPTIONS)
    settings = {"providers": ("cpu",), "max_text_chars": 100_000, "max_metadata_bytes": 65_536}
    found: dict[str, list[tuple[float, float]]] = {"bare encoder": [], "bebr encode": []}
    for number in range(rounds + 1):
        output = folder / f"out{number}"
        plan = plan_of(
            names, sources, NO_OPTIONS, bundle, keep_text=None, parts=1, output=output, threads=threads, **settings
        )
        encoder = open_encoder(plan)
        encoder.warm_up()

        rates = [
            rate(partial(bare, encoder, texts), rows),
            rate(partial(encode_part, plan, 0, encoder), rows),
        ]
        encoder.close()
        if number:  # the first round warms up
            for name, one in zip(found, rates, strict=True):
                found[name].append(one)
    print("| way | rows/s | rows per CPU second | against the bare encoder |\n|---|---|---|---|")
    against = median(cpu for _, cpu in found["bare encoder"])
    for name, some in found.items():
        wall, cpu = (median(each) for each in zip(*some, strict=True))
        print(f"| {name} | {wall:.0f} | {cpu:.0f} | {100 * cpu / against:.0f} % |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with TemporaryDirectory() as scratch:
        measure(Path(scratch), arguments.rows, arguments.rounds, arguments.threads)
