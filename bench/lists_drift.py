"""Lists where data drift: package summaries come first, word definitions later.

    python -m bench.lists_drift DATA [--recall 0.98]

Prints what is read of all rows for the recall by lists that were made of the summaries alone, by lists that are then
made again, and by lists of a collection that had both from the start; and the mean score of rows to the centroids of
their lists, as a share of what it was when these were made: below `DRIFT` of `engine/versions/lists.py` they are made
again. The rule is measured anew each time, as in `bench.lists`.
"""

import argparse
from pathlib import Path

import numpy as np
from bench.lists import Corpus, data_of, measured, points_of, records_of

from bebr.encoding import BundleRegistry, shipped_bundles
from bebr.encoding.encoder import Encoder
from bebr.index import quantize

ROWS = 410_000


def sources_of(folder: Path) -> list[str]:
    """The names of the collections whose numbers `data_of` gives."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    return [one.name for one in folders if any((one / f"{name}.new.i8.npy").exists() for name in ("db", "docs"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recall", type=float, default=0.98)
    args = parser.parse_args()
    encoder = Encoder(BundleRegistry([shipped_bundles()]).get("minilm@1"), threads=1)
    embeddings, source, kinds = data_of(args.data, ROWS)
    names = sources_of(args.data)
    first = records_of(encoder, embeddings[source == names.index("packages")])
    both = np.concatenate([first, records_of(encoder, embeddings[source == names.index("oewn")])])
    some = {
        name: quantize(encoder.project(rows), encoder.spec, encoder.steps)
        for name, rows in kinds.items()
        if name.split()[0] in ("packages", "oewn")
    }
    made = {
        "lists of summaries alone": Corpus(encoder, both, first),
        "the same, made again": Corpus(encoder, both, seed=1),
        "lists of both": Corpus(encoder, both),
    }
    print(f"{len(first):,} summaries, then {len(both) - len(first):,} definitions: rows read for recall {args.recall}")
    print(f"{'':26} {'lists':>6} {'mean score':>10} " + " ".join(f"{name:>18}" for name in some))
    for title, corpus in made.items():
        delta = measured(corpus, points_of(encoder, both)).delta(args.recall)
        shares = [corpus.by_lists(queries, delta)[2].mean() / corpus.rows for queries in some.values()]
        row = " ".join(f"{share:18.2%}" for share in shares)
        print(f"{title:26} {corpus.lists:6,} {corpus.score_share:10.2f} {row}", flush=True)


if __name__ == "__main__":
    main()
