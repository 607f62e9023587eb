"""Readers: the files of one package -> its English texts, one passage each. What a package is called is in `corpora`.

A reader takes files and yields texts, possibly some twice. It installs nothing and draws nothing by chance.
"""

import bz2
import csv
import html
import io
import json
import re
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from xml.etree import ElementTree

PASSAGE_WORDS = (12, 20, 35, 60, 110)
"""Passages of running text end with the sentence that reaches one of these, so that all lengths are met."""
MAX_WORDS = 150
PARAGRAPH_WORDS = (40, MAX_WORDS)
DEFINITION_WORDS = 70
SKIPPED_TAGS = frozenset({"script", "style", "pre", "nav", "footer", "math", "table"})
NO_DESCRIPTION = re.compile(r"(This|The) (meta|dummy|virtual)?-?package |Node\.js is an event-based")
NO_DEFINITION = re.compile(r"\s*(\(\d{4}-\d\d-\d\d\)|\{?\(?(http|ftp|mailto)|\[|E-mail|See also|Usenet|Address)")
PARAGRAPH_TAGS = frozenset({"p", "dd", "blockquote"})


@dataclass(frozen=True)
class File:
    """A file of a package. `read` gives its bytes, those of .gz and .dz files unpacked."""

    name: str
    read: Callable[[], bytes]

    def text(self) -> str:
        return self.read().decode("utf-8", "replace")


Reader = Callable[[list[File]], Iterator[str]]


def descriptions(files: list[File]) -> Iterator[str]:
    """Package lists: short and long description; of packages whose long one starts alike, the first.

    What only says which part of its source a package is ("This package contains the headers.") is left out.
    """
    seen: set[str] = set()
    for stanza in (stanza for file in files for stanza in file.text().split("\n\n")):
        described = stanza.partition("\nDescription-en: ")[2]
        short, _, long = described.partition("\n")
        paragraphs = [squeeze(paragraph) for paragraph in re.split(r"\n \.(?=\n|$)", long)]
        said = [p for p in paragraphs if p and not NO_DESCRIPTION.match(p)]
        if not said or said[0] in seen or "transitional" in short or "metapackage" in described:
            continue
        seen.add(said[0])
        yield first_words(f"{short}. {' '.join(said)}", 120)


def webster(files: list[File]) -> Iterator[str]:
    """dict-gcide: 'headword: definition'. Entries that take anything from WordNet are left out: it is for measuring."""
    for head, body in _entries(files):
        if "WordNet" in body:
            continue
        headword = re.split(r"[\\,;(]", head)[0].strip()
        # Spellings, part of speech and etymology stand before the definition, and may run over into its lines.
        said = re.sub(r"\\[^\\]*\\", "", f"{head}\n{body}")
        while said != (said := re.sub(r"\[[^][]*\]", "", said)):
            pass
        said = re.sub(r"--\s?[A-Z][\w.&' ]*(\([^)]*\))?\.?$|\b(Syn|Note): .*", "", said, flags=re.M).partition("\n")[2]
        senses = re.split(r"\n\s*\n|\n\s+(?=\d+\. |\([a-z]\) )", said)
        meaning = _unmarked(" ".join(re.sub(r"^\s*(\d+\. |\([a-z]\) )", "", sense) for sense in senses))
        if headword and len(meaning.split()) > 2 and not meaning.startswith(("See ", "Same as ")):
            yield first_words(f"{headword.lower()}: {meaning}", DEFINITION_WORDS)


def computing(files: list[File]) -> Iterator[str]:
    """dict-foldoc and dict-jargon: 'headword: definition', without dates and addresses."""
    for head, body in _entries(files):
        kept = [
            squeeze(paragraph)
            for paragraph in re.split(r"\n\s*\n", re.sub(r"^ /[^\n]*", "", body))
            if not re.match(
                r"\s*(\(\d{4}-\d\d-\d\d\)|\{?\(?(http|ftp|mailto)|\[|E-mail|See also|Usenet|Address)", paragraph
            )
        ]
        meaning = _unmarked(" ".join(kept))
        if len(meaning.split()) > 5 and not meaning.startswith(("See ", "/")):
            yield first_words(f"{head.split(' <')[0]}: {meaning}", MAX_WORDS)


def devil(files: list[File]) -> Iterator[str]:
    """dict-devil: the first paragraph of an entry."""
    for paragraph in (p for file in files for p in re.split(r"\n\s*\n", file.text())):
        if match := re.match(r"([A-Z][A-Z' -]+), (n|adj|v|adv|pp|p|x)\.[^ ]*\s+(?=[A-Z])", paragraph):
            yield first_words(f"{match[1].lower()}: {squeeze(paragraph[match.end() :])}", MAX_WORDS)


def manual(files: list[File]) -> Iterator[str]:
    """HTML documentation: paragraphs; those that are too long are parted between sentences."""
    least, most = PARAGRAPH_WORDS
    for paragraph in html_paragraphs(files):
        for passage in passages(paragraph, [most * 2 // 3]) if len(paragraph.split()) > most else [paragraph]:
            if least <= len(passage.split()) <= most and is_prose(passage):
                yield passage


def essays(files: list[File]) -> Iterator[str]:
    """HTML: passages of all lengths."""
    for paragraph in html_paragraphs(files):
        yield from filter(is_prose, passages(paragraph))


def ontology(files: list[File]) -> Iterator[str]:
    """The newest of these ontologies, packed JSON: 'label: definition' of each term whose label is plain words."""
    newest = max(files, key=lambda file: [int(number) for number in re.findall(r"\d+", file.name)])
    unpacked = subprocess.run(["zstd", "-dc"], input=newest.read(), stdout=subprocess.PIPE, check=True).stdout
    for term in json.loads(unpacked).values():
        label, said = term.get("label", ""), re.sub(r"<[^>]*>", "", term.get("description") or "")
        formula = re.search(r"[\d(\[{]", label) or "Quantification of the amount" in said or "dataset/taxonomy" in said
        if not term.get("deprecated") and not formula and len(said.split()) > 3:
            yield first_words(f"{label}: {squeeze(said)}", MAX_WORDS)


def news(files: list[File]) -> Iterator[str]:
    """CSV of articles: title and text, passages of all lengths."""
    for row in _rows(files):
        yield from filter(is_prose, passages(re.sub(r'"\?|\?(?=[a-z])', '"', row["text"]).replace(" - ", " ")))


def speeches(files: list[File]) -> Iterator[str]:
    """CSV of speeches: passages of all lengths."""
    for row in _rows(files):
        yield from filter(is_prose, passages(row["text"]))


def posts(files: list[File]) -> Iterator[str]:
    """CSV of short posts, without addresses and names."""
    for row in _rows(files):
        said = squeeze(html.unescape(re.sub(r"https?:\S+|@\w+|\bRT\b|#", "", row["text"]))).strip(" :-")
        if len(said.split()) > 6 and is_prose(said):
            yield said


def wiki(files: list[File]) -> Iterator[str]:
    """A dump of MediaWiki: running text of its articles, passages of all lengths."""
    for file in files:
        for _, node in ElementTree.iterparse(io.BytesIO(bz2.decompress(file.read()))):
            if node.tag.endswith("}text") and node.text and not node.text.lstrip().lower().startswith("#redirect"):
                for paragraph in _wiki_plain(node.text).split("\n"):
                    if not paragraph.startswith(("*", "#", ":", ";", "=", "|", "!", "[[", "<")):
                        yield from filter(is_prose, passages(squeeze(paragraph)))


def fortunes(files: list[File]) -> Iterator[str]:
    """Cookies of at most MAX_WORDS, without who said them."""
    for cookie in (cookie for file in files for cookie in re.split(r"\n%\n", file.text())):
        said = squeeze(re.sub(r"\n\s*--\s.*", "", cookie, flags=re.S))
        if 5 < len(said.split()) <= MAX_WORDS and is_prose(said):
            yield said


def bible(files: list[File]) -> Iterator[str]:
    """Verses, as the program of the package prints them; one, two or three together."""
    printed = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], capture_output=True, text=True, check=True).stdout
    verses = [line.partition(" ")[2] for line in printed.splitlines()]
    for start in range(0, len(verses), 6):
        yield verses[start]
        yield " ".join(verses[start + 1 : start + 3])
        yield " ".join(verses[start + 3 : start + 6])


def html_paragraphs(files: Iterable[File]) -> Iterator[str]:
    """The text of every paragraph, each once."""
    seen: set[str] = set()
    for file in files:
        parser = _Paragraphs()
        parser.feed(file.text())
        for paragraph in map(squeeze, parser.found):
            if paragraph and paragraph not in seen:
                seen.add(paragraph)
                yield paragraph


def passages(text: str, words: Iterable[int] = PASSAGE_WORDS) -> Iterator[str]:
    """Whole sentences until one of `words` is reached, which one by a checksum; those over MAX_WORDS are left out."""
    choices, kept = list(words), list[str]()
    for sentence in sentences(text):
        kept += sentence.split()
        if len(kept) >= choices[zlib.crc32(" ".join(kept[:5]).encode()) % len(choices)]:
            if len(kept) <= MAX_WORDS:
                yield " ".join(kept)
            kept = []
    if 4 < len(kept) <= MAX_WORDS:
        yield " ".join(kept)


def sentences(text: str) -> list[str]:
    """Parts that end with a full stop and are followed by a capital letter."""
    return re.split(r"(?<=[a-z0-9)\"'”][.!?])[\"”]?\s+(?=[A-Z\"“])", text)


def is_prose(text: str) -> bool:
    """Whether this is likely to be running English: mostly letters, and some of its commonest words."""
    letters = sum((char.isascii() and char.isalpha()) or char == " " for char in text)
    common = len(re.findall(r"\b(the|of|a|an|and|to|in|is|are|for|it|that|you|with)\b", text, flags=re.I))
    return letters > 0.87 * len(text) and common >= max(1, len(text.split()) // 10)


def squeeze(text: str) -> str:
    return " ".join(text.split())


def first_words(text: str, most: int) -> str:
    """The whole sentences that fit into `most` words; cut inside the first where that is longer."""
    words = text.split()
    if len(words) <= most:
        return " ".join(words)
    cut = " ".join(words[:most])
    end = max(cut.rfind(". "), cut.rfind("; "))
    return cut[: end + 1] if end > len(cut) // 3 else cut


def _entries(files: Iterable[File]) -> Iterator[tuple[str, str]]:
    """(first line, rest) of each entry of a dictionary: entries start in the first column, bodies are indented."""
    for file in files:
        for entry in re.split(r"\n\s*\n(?=\S)", file.text()):
            head, _, body = entry.strip("\n").partition("\n")
            if body and not head.startswith((" ", "00-")):
                yield head, body


def _unmarked(text: str) -> str:
    return squeeze(re.sub(r"[{}_]|<[a-z, ]+>", "", text))


def _rows(files: Iterable[File]) -> Iterator[dict[str, str]]:
    """The rows of every CSV file inside these ZIP files."""
    csv.field_size_limit(1 << 24)
    for file in files:
        with zipfile.ZipFile(io.BytesIO(file.read())) as archive:
            for name in archive.namelist():
                yield from csv.DictReader(io.StringIO(archive.read(name).decode("utf-8", "replace")))


def _wiki_plain(text: str) -> str:
    text = re.sub(r"<!--.*?-->|<ref[^>]*/>|<ref.*?</ref>|<math.*?</math>|\{\|.*?\n\|\}", "", text, flags=re.S)
    while text != (text := re.sub(r"\{\{[^{}]*\}\}", "", text)):
        pass
    text = re.sub(r"\[\[(File|Image|Category):(\[\[[^]]*\]\]|[^]])*\]\]", "", text, flags=re.I)
    text = re.sub(r"\[\[(?:[^]|]*\|)?([^]]*)\]\]", r"\1", text)
    return html.unescape(re.sub(r"'{2,}|<[^>]*>|\[https?:\S+ ?|\(\s*[;,]?\s*\)", "", text))


class _Paragraphs(HTMLParser):
    """Collects the text inside paragraphs, without what is in SKIPPED_TAGS."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = False
        self._skipping = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in SKIPPED_TAGS:
            self._skipping += 1
        elif tag in PARAGRAPH_TAGS or ("class", "para") in attrs:
            self.found.append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in SKIPPED_TAGS:
            self._skipping = max(0, self._skipping - 1)
        elif tag in PARAGRAPH_TAGS or tag == "div":  # DocBook's paragraphs are <div class="para">.
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside and not self._skipping:
            self.found[-1] += data
