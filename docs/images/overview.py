"""Draws the README's picture from the figures in docs/benchmarks.md.

    python docs/images/overview.py

Left: bytes per text, to scale, and what search finds. Right: quality while a collection changes its embedding model.
A test holds overview.svg to what this makes of the page.
"""

import re
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "benchmarks.md"
PICTURE = HERE / "overview.svg"
COLLECTION, JUDGED = "perl", "scifact"
FLOAT_BYTES = 384 * 4
SIZES = (128, 64, 32)
OTHERS = ("OPQ", "RaBitQ, its factors not counted", "PQ", "ITQ, float queries")
STYLE = """
    text { font: 14px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, "DejaVu Sans", sans-serif }
    text { fill: #1f2328 }
    .title { font-size: 20px; font-weight: 700 }
    .strong { font-weight: 700 }
    .soft { fill: #59636e }
    .small { font-size: 12px }
    .ours { fill: #0969da }
    .line { fill: none; stroke: #0969da; stroke-width: 3 }
    .card { fill: #ffffff; stroke: #d1d9e0 }
    .grey { fill: #818b98 }
    .inside { fill: #ffffff }
    .rule { stroke: #d1d9e0 }
    .usual { fill: none; stroke: #818b98; stroke-width: 2; stroke-dasharray: 6 5 }
    .gain { fill: #0969da; opacity: .12 }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc }
      .soft { fill: #9198a1 }
      .ours { fill: #58a6ff }
      .line { stroke: #58a6ff }
      .card { fill: #0d1117; stroke: #3d444d }
      .grey { fill: #656c76 }
      .rule { stroke: #3d444d }
      .usual { stroke: #9198a1 }
      .gain { fill: #58a6ff; opacity: .18 }
    }"""


def tables(heading: str) -> list[list[str]]:
    """The rows of all tables below one heading of the page, cells without markup."""
    section = re.split(r"^#+ ", PAGE.read_text("utf-8"), flags=re.M)
    text = next(part for part in section if part.partition("\n")[0] == heading)
    rows = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[re.sub(r"[*`]", "", cell).strip() for cell in row] for row in rows]


def recalls() -> dict[str, dict[int, float]]:
    """Method -> bytes -> recall@10 on COLLECTION."""
    header, _, *rows = tables("Recall")
    column = header.index(COLLECTION)
    return {row[0]: dict(zip((32, 64, 128), map(float, row[column].split("/")), strict=True)) for row in rows}


def upgrade() -> tuple[float, list[float]]:
    """nDCG@10 of the old model, and of new queries where 0, 25, 50, 75 and 100 % of the texts have new codes."""
    row = next(row for row in tables("Scaled by the collection's own points") if row[0] == JUDGED)
    old, promoted, mixed, new = row[1:]
    return float(old), [float(promoted), *map(float, mixed.split("/")), float(new)]


def percent(share: float) -> str:
    return f"{share * 100:.0f}%"


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{words}</text>'


def path(*points: tuple[float, float]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def memory() -> Iterator[str]:
    found = recalls()
    fit = found["bebr fit --bytes, adc"]
    left, right, widest = 32, 452, 330
    yield text(left, 50, "64 bytes per text instead of 1,536", "title")
    yield text(left, 84, "vector size, to scale", "soft")
    yield text(right, 84, "top 10 found", "soft", "end")
    for number, (size, share) in enumerate([(FLOAT_BYTES, 1.0), *((size, fit[size]) for size in SIZES)]):
        y, ours = 102 + 48 * number, size != FLOAT_BYTES
        width = widest * size / FLOAT_BYTES
        yield f'<rect x="{left}" y="{y}" width="{width:g}" height="32" rx="2" class="{"ours" if ours else "grey"}"/>'
        if ours:
            yield text(left + width + 10, y + 21, f"bebr code, {size} bytes", "strong" if size == 64 else "")
        else:
            yield text(left + 12, y + 21, f"float32 vector, {size:,} bytes", "inside strong")
        yield text(right, y + 21, percent(share), "strong ours" if size == 64 else "strong" if ours else "", "end")
    others = ", ".join(f"{name.partition(',')[0]} {percent(found[name][64])}" for name in OTHERS)
    yield text(left, 318, f"Others at 64 bytes: {others}", "small soft")
    yield text(left, 338, f"recall@10 of 384 floats, fitted to the collection ('{COLLECTION}')", "small soft")


def quality() -> Iterator[str]:
    old, shares = upgrade()
    edge, left, right, top, bottom = 508, 530.0, 886.0, 132.0, 272.0
    low, high = old - 0.028, shares[-1]

    def at(share: float, value: float) -> tuple[float, float]:
        return left + (right - left) * share, bottom - (bottom - top) * (value - low) / (high - low)

    points = [at(number / 4, value) for number, value in enumerate(shares)]
    start, turn = at(0, old), at(1, old)
    yield text(edge, 50, "A new model searches old codes", "title")
    yield text(edge, 84, "quality while texts get new codes", "soft")
    yield f'<polygon points="{path(*points, turn, start)}" class="gain"/>'
    yield f'<line x1="{edge}" y1="{bottom:g}" x2="{right + 20:g}" y2="{bottom:g}" class="rule"/>'
    for number, (x, _) in enumerate(points):
        yield text(x, bottom + 18, f"{number * 25}%", "small soft", "middle")
    yield text((left + right) / 2, bottom + 36, "of the texts have new codes", "small soft", "middle")
    yield f'<polyline points="{path(start, turn, points[-1])}" class="usual"/>'
    yield f'<polyline points="{path(*points)}" class="line"/>'
    for (x, y), value in zip(points, shares, strict=True):
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" class="ours"/>'
        yield text(x - 6, y - 11, f"{value:.3f}".lstrip("0"), "strong ours", "middle")
    yield text(left, start[1] + 16, f"old model, {old:.3f}".replace("0.", "."), "small soft")
    yield f'<line x1="{edge}" y1="112" x2="{edge + 28}" y2="112" class="line"/>'
    yield text(edge + 36, 117, "bebr: better at once", "strong")
    yield f'<line x1="{edge}" y1="136" x2="{edge + 28}" y2="136" class="usual"/>'
    yield text(edge + 36, 141, "re-embed all, then switch", "soft")
    yield text(edge, 338, f"nDCG@10, codes of 64 bytes, collection '{JUDGED}'", "small soft")


def draw() -> str:
    parts = "\n  ".join([*memory(), '<line x1="480" y1="32" x2="480" y2="346" class="rule"/>', *quality()])
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 940 372" width="940" height="372" role="img">
  <title>bebr: 64 bytes per text instead of 1,536, and a new model searches old codes</title>
  <style>{STYLE}
  </style>
  <rect x=".5" y=".5" width="939" height="371" rx="10" class="card"/>
  {parts}
</svg>
"""


if __name__ == "__main__":
    PICTURE.write_text(draw(), "utf-8")
    print(f"wrote {PICTURE}")
