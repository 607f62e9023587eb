"""Collections on disk, made for the tests of evaluation."""

import json
from pathlib import Path

import numpy as np
from tests.encoding.quantization.embeddings import text_like


def write_collection(folder: Path, rows: int = 400, queries: int = 40, qrels: bool = True) -> Path:
    """Embeddings as .npy, ids d0.. and q0.., and for each query its nearest document with grade 2, another with 1."""
    folder.mkdir(parents=True)
    documents, asked = text_like(rows), text_like(queries, seed=1)
    np.save(folder / "docs.npy", documents)
    np.save(folder / "queries.npy", asked)
    if qrels:
        write_ids(folder, rows, queries)
        nearest = (asked @ documents.T).argmax(axis=1)
        lines = [f"q{q}\td{d}\t2\nq{q}\td{(d + 1) % rows}\t1" for q, d in enumerate(nearest)]
        (folder / "qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n")
    return folder


def write_ids(folder: Path, rows: int, queries: int) -> None:
    for name, letter, count in (("corpus", "d", rows), ("queries", "q", queries)):
        texts = ["".join(chr(ord("a") + int(digit)) for digit in str(i)) for i in range(count)]
        lines = [json.dumps({"_id": f"{letter}{i}", "title": "", "text": text}) for i, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
