"""Rooms of the source and the arrows between them; `python -m tests.rooms` prints the drawing of ARCHITECTURE.md.

A *room* is a folder below a layer (`engine.search`), or a module that lies directly in one (`engine.inputs`). A layer's
`__init__` is its face: it hands names on, and whoever imports a name from it imports what the face took it from.
"""

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPLIT = ("encoding", "engine", "store", "server", "cli", "bebr_training")
"""Layers with rooms of their own; any other layer is one room."""
DRAWN = (
    "cli",
    "demo",
    "client",
    "bootstrap",
    "server",
    "jobs",
    "engine",
    "encoding",
    "store",
    "shards",
    "index",
    "kernel",
)
"""Layers in the drawing. `core`, `errors`, `disk` and `telemetry` are below all of them: their arrows are left out."""
OPENED = ("engine", "encoding", "store")
"""Layers whose rooms are drawn."""

Edges = Mapping[str, frozenset[str]]


def room_of(name: str, modules: frozenset[str]) -> str | None:
    """The room that a dotted name lies in, as `engine.search` for `bebr.engine.search.search`; None: not ours."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    if not name or name == "bebr":
        return None
    parts = name.split(".")
    parts = parts[1:] if parts[0] == "bebr" else parts
    return ".".join(parts[:2]) if parts[0] in SPLIT else parts[0]


def edges_between(imports: Sequence[tuple[str, str]], modules: frozenset[str]) -> dict[str, set[str]]:
    """(importing module, imported name) pairs -> the rooms that each room imports."""
    edges: dict[str, set[str]] = defaultdict(set)
    for module, target in imports:
        here, there = room_of(module, modules), room_of(target, modules)
        if here is not None and there is not None and here != there:
            edges[here].add(there)
    return dict(edges)


def on_a_circle(edges: Mapping[str, set[str]]) -> list[str]:
    """The rooms that lie on a circle of arrows."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(edges.get(start, ()))
        while waiting:
            if (room := waiting.pop()) not in seen:
                seen.add(room)
                waiting += edges.get(room, ())
        return seen

    return sorted(room for room in edges if room in reached(room))


def reduced(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The arrows that no longer path replaces."""

    def beyond(room: str, seen: set[str]) -> set[str]:
        for further in edges.get(room, ()):
            if further not in seen:
                seen.add(further)
                beyond(further, seen)
        return seen

    kept: dict[str, set[str]] = {}
    for room, targets in edges.items():
        over_others = set().union(*(beyond(target, set()) for target in targets)) if targets else set()
        kept[room] = targets - over_others
    return kept


def drawing(edges: Mapping[str, set[str]]) -> str:
    """The rooms as a Mermaid flowchart; an arrow that a longer path replaces is left out."""
    chosen: dict[str, set[str]] = defaultdict(set)
    for room, targets in edges.items():
        if (here := _drawn(room)) is not None:
            chosen[here] |= {there for target in targets if (there := _drawn(target)) not in (None, here)}
    rooms = sorted(chosen.keys() | set().union(*chosen.values()))
    lines = ["flowchart TD"]
    for layer in DRAWN:
        own = [room for room in rooms if room.partition(".")[0] == layer]
        if layer in OPENED:
            lines += [
                f"  subgraph {layer}",
                *(f"    {room}[{room.partition('.')[2] or layer}]" for room in own),
                "  end",
            ]
        else:
            lines += [f"  {room}" for room in own]
    kept = reduced(chosen)
    lines += [f"  {room} --> {target}" for room in rooms for target in sorted(kept.get(room, ()))]
    return "\n".join(lines)


def _drawn(room: str) -> str | None:
    """The box that a room is drawn in; None: it is not drawn."""
    layer = room.partition(".")[0]
    if layer not in DRAWN:
        return None
    return room if layer in OPENED else layer


def source_edges() -> dict[str, set[str]]:
    """The arrows between the rooms of the source as it stands."""
    from tests.test_import_graph import source_imports, source_modules

    faces = {name for name, path in source_modules() if path.name == "__init__.py"}
    modules = frozenset(name for name, _ in source_modules())
    pairs = []
    imports = source_imports()
    handed_on = {f"{i.module}.{i.target.rpartition('.')[2]}": i.target for i in imports if i.module in faces}
    for found in imports:
        if found.module in faces and found.module.removeprefix("bebr.") in SPLIT:
            continue
        target = found.target
        while handed_on.get(target, target) != target:
            target = handed_on[target]
        pairs.append((found.module, target))
    return edges_between(pairs, modules)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    print(drawing(source_edges()))
