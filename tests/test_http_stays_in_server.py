"""Only the server and those who call it know HTTP: no text below them names a route, a method or a status code."""

import io
import re
import tokenize
from pathlib import Path

import pytest

SERVICE = Path(__file__).parents[1] / "service" / "bebr"
KNOW_HTTP = {"server", "client", "cli", "demo"}
FILES = sorted(
    path for path in SERVICE.rglob("*.py") if path.relative_to(SERVICE).parts[0].removesuffix(".py") not in KNOW_HTTP
)
ROUTE = r"/v1/|\b(?:POST|PUT|PATCH|DELETE|GET) +/?[a-z]|\b(?:scroll|ingest|search|other) routes?\b"
STATUS = r"\b(?:400|401|403|404|405|409|413|415|422|429|503|507)\b"
FORBIDDEN = re.compile(f"{ROUTE}|{STATUS}")


def texts(source: str) -> list[tuple[int, str]]:
    """(line, text) of the strings and comments of a module, so of its docstrings and messages."""
    kinds = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [(token.start[0], token.string) for token in tokens if token.type in kinds]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SERVICE)))
def test_no_text_below_the_server_knows_http(path: Path) -> None:
    found = [(line, text[:120]) for line, text in texts(path.read_text("utf-8")) if FORBIDDEN.search(text)]
    assert not found


@pytest.mark.parametrize(
    "text", ['"use the scroll route"', '"""More get 429."""', "# see /v1/bundles", '"PUT it first"', 'f"POST versions"']
)
def test_what_must_not_be_there_is_found(text: str) -> None:
    assert [line for line, found in texts(text) if FORBIDDEN.search(found)] == [1]


def test_what_may_be_there_is_not_found() -> None:
    for text in ('"the route to its codes"', "limit = 400", '"500 texts"', '"GET"', '"put it back"'):
        assert not any(FORBIDDEN.search(found) for _, found in texts(text)), text
