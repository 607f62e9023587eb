"""What another scan code loses when it is made of the old codes instead of the floats.

    python -m bench.fit_from_codes [DATA_FOLDER] [--bytes 64] [--rescore-bytes 128,384] [--to 32] [--queries 1000]

oewn is coded with a rescore code. A code of another size is then fitted to what these records stand for, and made of
them, as `POST .../fit {"from": "codes"}` does; and beside it one is fitted to the floats and made of them. recall@10 is
of the scan codes alone, against the float neighbors.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from bench.bundles.data import DEFAULT_FOLDER, collections_in
from numpy.typing import NDArray

from bebr.core.codes import code_values
from bebr.encoding import BundleRegistry
from bebr.encoding.encoder import Encoder
from bebr.encoding.quantization.training import fit_own

Floats = NDArray[np.float32]
BATCH = 4_096


def fitted(rows: Floats, size_bytes: int, rescore_bytes: int, sample: int) -> Encoder:
    chosen = np.random.default_rng(0).choice(len(rows), min(sample, len(rows)), replace=False)
    files, metrics = fit_own(rows[chosen], size_bytes, rescore_bytes)
    with TemporaryDirectory() as folder:
        return Encoder(BundleRegistry([Path(folder)]).put_binarizer("own@1", rows.shape[1], files, metrics))


def batches(rows: Floats) -> Iterator[Floats]:
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))


def represented(encoder: Encoder, rows: Floats) -> Floats:
    """What the records of these rows stand for, at length one."""
    decoded = np.concatenate([encoder.decode(encoder.encode(some)) for some in batches(rows)])
    unit: Floats = decoded / np.linalg.norm(decoded, axis=1, keepdims=True)
    return unit


def nearest(queries: Floats, rows: Floats) -> NDArray[np.int64]:
    """(queries, 10): the rows of the largest inner products."""
    found = [np.argpartition(-(some @ rows.T), 10, axis=1)[:, :10] for some in np.array_split(queries, 20)]
    return np.concatenate(found)


def recall(encoder: Encoder, queries: Floats, rows: Floats, truth: NDArray[np.int64]) -> float:
    """recall@10 of the scan codes that are made of these rows."""
    values = [code_values(encoder.encode(some), encoder.spec, encoder.steps) for some in batches(rows)]
    found = nearest(encoder.project(queries), np.concatenate(values))
    return sum(len(np.intersect1d(one, other)) for one, other in zip(found, truth, strict=True)) / truth.size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=DEFAULT_FOLDER, help="folder of the collections")
    parser.add_argument("--bytes", type=int, default=64, help="bytes of the code that there is")
    parser.add_argument("--rescore-bytes", default="128,384", help="bytes of its rescore code")
    parser.add_argument("--to", type=int, default=32, help="bytes of the code that is made of it")
    parser.add_argument("--sample", type=int, default=10_000, help="rows that each code is fitted to")
    parser.add_argument("--queries", type=int, default=1_000)
    options = parser.parse_args()
    if not (found := [one for one in collections_in(options.data) if one.name == "oewn"]):
        parser.exit(0, f"skipped: {options.data} does not hold oewn\n")
    rows, queries = found[0].documents, found[0].queries[: options.queries]
    truth = nearest(queries, rows)
    direct = fitted(rows, options.to, 0, options.sample)
    print("| made of | code | recall@10 |\n|---|---|--:|")
    print(f"| floats | {direct.spec} | {recall(direct, queries, rows, truth):.4f} |", flush=True)
    for rescore_bytes in [int(size) for size in options.rescore_bytes.split(",")]:
        before = fitted(rows, options.bytes, rescore_bytes, options.sample)
        known = represented(before, rows)
        after = fitted(known, options.to, 0, options.sample)
        made_of = f"{options.bytes} + {rescore_bytes} bytes"
        print(f"| {made_of} | {after.spec} | {recall(after, queries, known, truth):.4f} |", flush=True)


if __name__ == "__main__":
    main()
