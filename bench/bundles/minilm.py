"""Fits the general bundles for all-MiniLM-L6-v2 that come with bebr, of 32, 64 and 128 bytes, and writes them.

    python -m bench.bundles.corpora CORPORA      gathers and embeds the texts; prints what to install first
    python -m bench.bundles.minilm CORPORA [--out models/bundles]
    python -m bench.bundles.minilm CORPORA --rescore     version 2: the same scan codes with rescore codes

Three sets of texts are kept apart. Fitted on: the corpora, texts of many kinds from packages. Chosen on: cranfield and
climate-fever, where CODES did best of their sizes (`--sweep` prints them). Reported on: scifact and oewn, which nothing
here ever looked at (`python -m bench.quality`).
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
from bench.bundles.data import DEFAULT_FOLDER, collections_in
from numpy.typing import NDArray
from onnx import numpy_helper

from bebr.core.arrays import Floats
from bebr.core.codes import CodeSpec
from bebr.encoding import Bundle, write_bundle
from bebr.encoding.quantization.recurrent import RESCORED_HARDNESS, Recurrent
from bebr.encoding.quantization.recurrent_fit import Effort, assemble, fit_recurrent
from bebr.encoding.quantization.recurrent_graph import files_of
from bebr.encoding.quantization.rescored import Rescored, measure_rescored
from bebr.encoding.quantization.residual import Residual, fit_residual
from bebr.encoding.quantization.rows import unit_rows
from bebr_training.search.metrics import recall_per_query
from bebr_training.search.ranking import dot_search

CODES = {"minilm-32": "256x1", "minilm": "256x2", "minilm-128": "192x4+128x2"}
VERSION = "1"
RESCORED = {"minilm": ("minilm", 128), "minilm-32": ("minilm-32", 160), "minilm-64-384": ("minilm", 384)}
"""Name -> whose scan codes of version 1 it has, and bytes of its rescore codes."""
RESCORED_VERSION = "2"
QUERIES = 1_000
"""Rows of the corpora that search the others, to count the candidates that rescoring takes."""
SWEEP = ("256x1", "64x2+128x1", "128x2", "256x2", "192x2+128x1", "128x2+256x1", "192x4+128x2", "128x4+256x2", "256x4")
SWEEP_ROWS = 4_000
"""Rows of each corpus for the sweep."""
CHOSEN_ON = ("cranfield", "climate-fever")
SHIPPED = Path(__file__).resolve().parents[2] / "models" / "bundles"
Corpora = Mapping[str, NDArray[np.float16]]


def read_corpora(folder: Path) -> Corpora:
    """name -> embeddings (rows, 384) of every corpus in the folder, mapped."""
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}


def fit_general(corpora: Corpora, code: str, effort: Effort | None = None) -> Recurrent:
    """One binarizer for all corpora together."""
    rows = np.vstack([np.asarray(rows, np.float32) for rows in corpora.values()])
    return fit_recurrent(rows, CodeSpec.parse(code), effort=effort)


def ship(corpora: Corpora, folder: Path) -> list[Bundle]:
    """Fit the general binarizers and write them into `folder`, over those that are there."""
    written = []
    for name, code in CODES.items():
        binarizer = fit_general(corpora, code)
        figures = {"fit": {"corpora": {name: len(rows) for name, rows in corpora.items()}, "seed": 0}}
        files = files_of(binarizer)
        dims = binarizer.embedding_dims
        written.append(
            write_bundle(folder, name, VERSION, embedding_dims=dims, binarizer=files, figures=figures, replace=True)
        )
        print(f"{written[-1].id}: {code}, fingerprint {written[-1].fingerprint[:16]}", flush=True)
    return written


def ship_rescored(corpora: Corpora, folder: Path) -> list[Bundle]:
    """Fit rescore codes to what the scan codes of version 1, found by fewer loops, leave over, and write version 2."""
    rows = np.vstack([np.asarray(rows, np.float32) for rows in corpora.values()])
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    written = []
    for name, (base_name, size_bytes) in RESCORED.items():
        base = Bundle.load(folder / f"{base_name}@{VERSION}")
        scan = replace(_shipped(base), hardness=RESCORED_HARDNESS)
        left = scan.left_over(unit_rows(rows))
        residual = fit_residual(rows, left, size_bytes)
        measured = _measure(rows, left, residual)
        files = files_of(replace(scan, residual=residual))
        figures = {
            "fit": {"corpora": {name: len(rows) for name, rows in corpora.items()}, "scan_codes": base.id},
            "rescored": asdict(measured),
            "candidates": measured.candidates,
        }
        dims = base.embedding_dims
        written.append(
            write_bundle(
                folder, name, RESCORED_VERSION, embedding_dims=dims, binarizer=files, figures=figures, replace=True
            )
        )
        print(f"{written[-1].id}: {files.spec}, {measured.candidates} candidates, recall {measured.recall}", flush=True)
    return written


def _shipped(bundle: Bundle) -> Recurrent:
    """What a shipped graph was exported from."""
    files = bundle.read_binarizer()
    assert files is not None, "the shipped bundles are binarizers"
    constants = onnx.load_model_from_string(files.graph).graph.initializer
    (decoder,) = (numpy_helper.to_array(constant) for constant in constants if constant.name == "decoder")
    dims = bundle.embedding_dims
    metric, mean = np.eye(dims, dtype=np.float32), np.zeros(dims, np.float32)
    found = assemble(bundle.spec, decoder, metric=metric, mean=mean)
    assert files_of(found).graph == files.graph, "nothing else determines the graph"
    return found


def _measure(rows: Floats, left: Floats, residual: Residual) -> Rescored:
    """The first rows search the others."""
    queries, searched, left = rows[:QUERIES], rows[QUERIES:], left[QUERIES:]
    finer = residual.decode(residual.quantized_values(left))
    return measure_rescored(queries, searched - left, finer, dot_search(searched)(queries, 10))


def sweep(corpora: Corpora, data: Path) -> None:
    """Print recall@10 of adc on the collections that the codes are chosen on."""
    samples = {name: rows[:SWEEP_ROWS] for name, rows in corpora.items()}
    collections = [collection for collection in collections_in(data) if collection.name in CHOSEN_ON]
    print(f"{'code':16s} " + " ".join(f"{collection.name:>14s}" for collection in collections))
    for code in SWEEP:
        binarizer = fit_general(samples, code, Effort(warm=15, full=3))
        cells = []
        for collection in collections:
            truth = dot_search(collection.documents)(collection.queries, 10)
            values = binarizer.quantized_values(collection.documents)
            found = dot_search(values, binarizer.project)(collection.queries, 10)
            cells.append(f"{recall_per_query(found, truth, 10).mean():14.4f}")
        print(f"{code:16s} " + " ".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", type=Path, help="folder of the embedded corpora")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="folder of the bundles")
    parser.add_argument("--rescore", action="store_true", help="fit rescore codes for the scan codes of version 1")
    parser.add_argument("--sweep", action="store_true", help="compare codes and write nothing")
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER, help="folder of the collections, for --sweep")
    options = parser.parse_args()
    corpora = read_corpora(options.corpora)
    if not corpora:
        parser.error(f"no corpora in {options.corpora}: make them with python -m bench.bundles.corpora")
    if options.sweep:
        sweep(corpora, options.data)
    elif options.rescore:
        ship_rescored(corpora, options.out)
    else:
        ship(corpora, options.out)


if __name__ == "__main__":
    main()
