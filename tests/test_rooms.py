"""Holds the rooms of the source to their order: no circles between them, and inside `engine` one direction.

engine:    versions -> write, search -> collections
encoding, shards and store never import each other
"""

from collections.abc import Mapping

from tests.rooms import ROOT, drawing, edges_between, on_a_circle, reduced, source_edges

# Room -> the rooms of the same layer that it may import. Modules that lie directly in a layer serve all of its rooms.
INSIDE: Mapping[str, frozenset[str]] = {
    "engine.collections": frozenset(),
    "engine.search": frozenset({"engine.collections"}),
    "engine.write": frozenset({"engine.collections"}),
    "engine.versions": frozenset({"engine.collections", "engine.search", "engine.write"}),
    "store.sqlite": frozenset(),
    "store.redis": frozenset(),
}
STRANGERS = ("encoding", "shards", "store")
"""Layers that never import each other."""


def faults(edges: Mapping[str, set[str]]) -> list[str]:
    found = [f"{room} lies on a circle" for room in on_a_circle(edges)]
    for room, targets in edges.items():
        layer = room.partition(".")[0]
        if (allowed := INSIDE.get(room)) is not None:
            others = {target for target in targets if target in INSIDE and target.startswith(f"{layer}.")}
            found += [f"{room} imports {target}" for target in sorted(others - allowed)]
        if layer in STRANGERS:
            strange = {t for t in targets if t.partition(".")[0] in STRANGERS and t.partition(".")[0] != layer}
            found += [f"{room} imports {target}" for target in sorted(strange)]
    return found


def test_rooms_keep_their_order() -> None:
    edges = source_edges()
    assert "engine.search" in edges, "no rooms were found"
    assert faults(edges) == []


def test_the_drawing_of_the_architecture_is_the_source() -> None:
    """Print it anew with `python -m tests.rooms`."""
    assert drawing(source_edges()) in (ROOT / "ARCHITECTURE.md").read_text("utf-8")


def test_faults_are_caught() -> None:
    modules = frozenset(
        {"bebr.engine.search.search", "bebr.engine.write.points", "bebr.store.sqlite.store", "bebr.shards"}
    )
    up = [("bebr.engine.search.search", "bebr.engine.write.points.PointWriter")]
    assert faults(edges_between(up, modules)) == ["engine.search imports engine.write"]
    circle = [*up, ("bebr.engine.write.points", "bebr.engine.search.search.Searcher")]
    assert "engine.write lies on a circle" in faults(edges_between(circle, modules))
    strange = [("bebr.shards", "bebr.store.sqlite.store.SqliteStore")]
    assert faults(edges_between(strange, modules)) == ["shards imports store.sqlite"]


def test_arrows_that_a_longer_path_replaces_are_not_drawn() -> None:
    assert reduced({"a": {"b", "c"}, "b": {"c"}}) == {"a": {"b"}, "b": {"c"}}
