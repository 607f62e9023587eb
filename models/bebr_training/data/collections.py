"""Collections to measure on: folders with embeddings or texts, and optionally with relevance judgments.

    docs.npy, queries.npy                       embeddings, one per row, of any length; also .fvecs or .parquet
    docs.<model>.i8.npy, docs.<model>.scale.npy embeddings as int8 with one float32 scale per row; likewise for queries
    corpus.jsonl[.gz], queries.jsonl[.gz]       ids and texts: "_id" or "id", "title", "text"; line i is row i
    db_rows.i32.npy                             the lines of the corpus that have embeddings, if not all have
    qrels.tsv or qrels/test.tsv                 "query-id corpus-id score" under a header, separated by tabs

`docs` may also be named `db`. Without corpus.jsonl or queries.jsonl the ids are row numbers, from 0. With relevance
judgments, only queries that have them are used, in the order of the file, up to a maximum.
"""

import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bebr.core.arrays import Floats
from bebr.encoding import TextKind
from bebr.encoding.embedding.files import SUFFIXES, read_array, read_rows
from bebr.encoding.embedding.vectors import check_embeddings
from bebr.encoding.encoder import Encoder
from bebr.errors import BebrError, InvalidEmbeddings, InvalidOption
from bebr_training.search.metrics import Judgments

SIDES = (("docs", "db"), ("queries",))
TEXTS_PER_STEP = 256

Progress = Callable[[int, int, str], None]
"""Called as progress(done, total, what is being done)."""


@dataclass(frozen=True)
class TextEmbedder:
    """Embeds the texts of a folder without embeddings."""

    encoder: Encoder
    cache: Path | None = None
    """Folder that caches embeddings."""
    progress: Progress | None = None


@dataclass(frozen=True)
class Collection:
    """A collection in memory."""

    name: str
    documents: Floats
    """(rows, dims), rows of length one."""
    queries: Floats
    """(queries, dims), rows of length one."""
    judgments: Judgments | None
    """Relevance judgments, if the folder has them."""

    @property
    def dims(self) -> int:
        return int(self.documents.shape[1])


def find_collections(folders: Sequence[Path]) -> list[Path]:
    """Each folder that is a collection, or the collections in it, by name. Raises InvalidOption if there are none."""
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise InvalidOption(f"there is no folder '{folder}'")
        inside = [folder] if _is_collection(folder) else [f for f in sorted(folder.iterdir()) if _is_collection(f)]
        if not inside:
            raise InvalidOption(f"'{folder}' has no collection: expected docs.npy or corpus.jsonl, and queries")
        found += inside
    return found


def open_collection(
    folder: Path, max_queries: int, *, model: str | None = None, embedder: TextEmbedder | None = None
) -> Collection:
    """Read and check the collection in `folder`.

    Raises InvalidOption when a file is missing, when `model` or `embedder` does not apply, or when the relevance
    judgments contain an unknown id; InvalidEmbeddings for NaN, rows of zeros, and documents and queries of different
    dims.
    """
    if not folder.is_dir():
        raise InvalidOption(f"there is no folder '{folder}'")
    documents, queries = (_embeddings(folder, names, model, embedder) for names in SIDES)
    if documents.shape[1] != queries.shape[1]:
        raise InvalidEmbeddings(
            f"{folder}: documents have {documents.shape[1]} dims, queries {queries.shape[1]}; embed both with one model"
        )
    judgments = _judgments(folder, len(documents), len(queries))
    chosen = np.arange(len(queries)) if judgments is None else np.array(sorted(judgments), np.int64)
    chosen = chosen[:max_queries]
    if judgments is not None:
        judgments = {place: judgments[query] for place, query in enumerate(chosen.tolist())}
    return Collection(folder.resolve().name, documents, np.ascontiguousarray(queries[chosen]), judgments)


def has_embeddings(folder: Path) -> bool:
    """Whether a folder has embeddings of its documents, of any model."""
    ends = (*SUFFIXES, ".*.i8.npy")
    return any(any(folder.glob(f"{name}{end}")) for name in SIDES[0] for end in ends)


def read_texts(path: Path) -> tuple[list[str], list[str]]:
    """A .jsonl or .jsonl.gz file -> ids and texts, 'title. text' where there is a title. Raises InvalidOption."""
    ids, texts = [], []
    for number, line in _json_lines(path):
        id_ = line.get("_id", line.get("id"))
        if id_ is None:
            raise InvalidOption(f"{path}: line {number} has neither '_id' nor 'id'")
        title, text = line.get("title") or "", line.get("text") or ""
        if not isinstance(id_, str | int) or not isinstance(title, str) or not isinstance(text, str):
            raise InvalidOption(f"{path}: line {number}: id, title and text must be texts")
        ids.append(str(id_))
        texts.append(f"{title.rstrip('.')}. {text}" if title and text else title or text)
    if len(set(ids)) < len(ids):
        raise InvalidOption(f"{path}: duplicate id '{_duplicate(ids)}'")
    return ids, texts


def _duplicate(ids: Sequence[str]) -> str:
    return next(id_ for id_, count in Counter(ids).items() if count > 1)


def _is_collection(folder: Path) -> bool:
    names = [name for side in SIDES for name in side]
    return folder.is_dir() and (any(any(folder.glob(f"{n}.*")) for n in names) or _texts(folder, "corpus") is not None)


def _embeddings(folder: Path, names: Sequence[str], model: str | None, embedder: TextEmbedder | None) -> Floats:
    """One side of a collection: unit rows (rows, dims) float32."""
    found = {path.name: path for name in names for path in sorted(folder.glob(f"{name}.*"))}
    plain = [path for name in names for suffix in SUFFIXES if (path := found.get(f"{name}{suffix}"))]
    coded = {path.name.split(".")[1]: path for path in found.values() if path.name.endswith(".i8.npy")}
    if plain or coded:
        if embedder is not None:
            raise InvalidOption(f"{folder} has embeddings, so --base does not apply")
        path = plain[0] if plain else _coded_path(folder, coded, model)
        if plain and model is not None:
            raise InvalidOption(f"'{path}' has the embeddings of one model, so --model does not apply")
        rows = read_rows(path)
    elif embedder is not None:
        path = _texts(folder, "corpus" if names == SIDES[0] else names[0]) or folder / f"{names[0]}.jsonl"
        rows = embed_file(path, embedder, TextKind.PASSAGE if names == SIDES[0] else TextKind.QUERY)
    else:
        raise InvalidOption(
            f"{folder} has no embeddings: expected {names[0]}{', '.join(SUFFIXES)} or {names[0]}.<model>.i8.npy; "
            "give a bundle with --base to embed its texts"
        )
    try:
        return check_embeddings(rows, rows.shape[-1])
    except BebrError as error:
        raise InvalidEmbeddings(f"{path}: {error.detail}") from error


def _coded_path(folder: Path, coded: Mapping[str, Path], model: str | None) -> Path:
    if model is None and len(coded) > 1:
        raise InvalidOption(f"{folder} has embeddings of {', '.join(sorted(coded))}; choose one with --model")
    chosen = coded.get(model) if model is not None else next(iter(coded.values()))
    if chosen is None:
        raise InvalidOption(f"{folder} has no embeddings of '{model}', only of {', '.join(sorted(coded))}")
    return chosen


def embed_file(path: Path, embedder: TextEmbedder, kind: TextKind) -> Floats:
    """The embeddings of the texts of a file, from the cache if the same bundle embedded the same texts before."""
    if not path.is_file():
        raise InvalidOption(f"there is no file '{path}' with texts to embed")
    texts = read_texts(path)[1]
    stored = None
    if embedder.cache is not None:
        parts = (embedder.encoder.bundle.fingerprint, kind, hashlib.sha256(path.read_bytes()).hexdigest())
        stored = embedder.cache / f"{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:32]}.npy"
        if stored.is_file():
            return read_rows(stored)
    rows = np.empty((len(texts), embedder.encoder.bundle.embedding_dims), np.float32)
    # Texts of similar length are embedded together, so that little padding is computed.
    order = np.argsort([len(text) for text in texts], kind="stable")[::-1]
    for start in range(0, len(texts), TEXTS_PER_STEP):
        part = order[start : start + TEXTS_PER_STEP]
        rows[part] = embedder.encoder.embed([texts[row] for row in part.tolist()], kind)
        if embedder.progress is not None:
            embedder.progress(start + len(part), len(texts), f"embedding {path.parent.name}/{path.name}")
    if stored is not None:
        stored.parent.mkdir(parents=True, exist_ok=True)
        scratch = stored.with_suffix(".part.npy")
        np.save(scratch, rows)
        scratch.rename(stored)
    return rows


def _judgments(folder: Path, rows: int, queries: int) -> Judgments | None:
    """The relevance judgments of a folder. A relevant document without an embedding counts as never found."""
    path = next((path for path in (folder / "qrels.tsv", folder / "qrels" / "test.tsv") if path.is_file()), None)
    if path is None:
        return None
    row_of = _document_rows(folder, rows)
    query_of = {id_: row for row, id_ in enumerate(_ids(folder, "queries", queries))}
    found: dict[int, dict[int, float]] = {}
    for number, line in _lines(path):
        if number == 1 or not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) != 3 or not _is_number(cells[2]):
            raise InvalidOption(f"{path}: line {number}: expected query-id, corpus-id and a number, got {line[:80]!r}")
        for id_, known, what in ((cells[0], query_of, "query"), (cells[1], row_of, "document")):
            if id_ not in known:
                raise InvalidOption(f"{path}: line {number}: there is no {what} '{id_}'")
        grades = found.setdefault(query_of[cells[0]], {})
        if (row := row_of[cells[1]]) >= 0:
            grades[row] = float(cells[2])
    if not found:
        raise InvalidOption(f"{path} has no judgments below its header line")
    return found


def _document_rows(folder: Path, rows: int) -> dict[str, int]:
    """Id -> row of the embeddings; -1 where the corpus line has none."""
    chosen = folder / "db_rows.i32.npy"
    if not chosen.is_file():
        return {id_: row for row, id_ in enumerate(_ids(folder, "corpus", rows))}
    lines = read_array(chosen)
    ids = _ids(folder, "corpus", None)
    if lines.shape != (rows,) or lines.dtype.kind not in "iu" or not 0 <= lines.min() <= lines.max() < len(ids):
        raise InvalidOption(f"{chosen}: expected {rows} line numbers below {len(ids)}, one per embedding")
    return dict.fromkeys(ids, -1) | {ids[line]: row for row, line in enumerate(lines.tolist())}


def _ids(folder: Path, name: str, rows: int | None) -> list[str]:
    path = _texts(folder, name)
    if path is None:
        return [str(row) for row in range(rows or 0)]
    ids = read_texts(path)[0]
    if rows is not None and len(ids) != rows:
        raise InvalidOption(f"{path} has {len(ids)} lines for {rows} embeddings")
    return ids


def _texts(folder: Path, name: str) -> Path | None:
    return next((path for end in ("jsonl", "jsonl.gz") if (path := folder / f"{name}.{end}").is_file()), None)


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(path):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InvalidOption(f"{path}: line {number} is not valid JSON: {error}") from error
            if not isinstance(value, dict):
                raise InvalidOption(f"{path}: line {number} is not a JSON object")
            yield number, value


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file, from 1, without their ends. Raises InvalidOption for what is not UTF-8 or gzip."""
    number = 0
    packed = path.suffix == ".gz"
    with gzip.open(path, "rt", encoding="utf-8-sig") if packed else path.open(encoding="utf-8-sig") as lines:
        try:
            for number, line in enumerate(lines, 1):
                yield number, line.rstrip("\r\n")
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InvalidOption(f"{path}: cannot be read after line {number}: {error}") from error


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
