"""Placement: what must hold for any leaves, and how even it is for some."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bebr.shards.placement import WHOLE, Place, holders, shards_of

ZONES = st.sampled_from(["a", "b", "c"])
PLACES = st.lists(
    st.tuples(st.integers(0, 30), ZONES, st.sampled_from([0.5, 1.0, 4.0])), max_size=9, unique_by=lambda one: one[0]
).map(lambda some: [Place(f"leaf-{number}", zone, capacity) for number, zone, capacity in some])
REPLICAS = st.integers(1, 4)
SHARDS = 12


@given(PLACES, REPLICAS)
def test_each_shard_has_as_many_holders_as_it_should(places: list[Place], replicas: int) -> None:
    names = {place.name for place in places}
    for shard in (WHOLE, *range(SHARDS)):
        found = holders("uid", shard, places, replicas)
        assert len(found) == len(set(found)) == min(replicas, len(places))
        assert set(found) <= names


@given(PLACES, REPLICAS)
def test_zones_have_replicas_as_evenly_as_they_can(places: list[Place], replicas: int) -> None:
    zone = {place.name: place.zone for place in places}
    sizes = Counter(zone.values())
    for shard in range(SHARDS):
        found = Counter(zone[name] for name in holders("uid", shard, places, replicas))
        if len(sizes) >= replicas:
            assert set(found.values()) <= {1}, "replicas share a zone although there are enough of them"
        most = max(found.values(), default=0)
        assert all(found[one] >= min(most - 1, size) for one, size in sizes.items())


@given(PLACES, ZONES, REPLICAS)
def test_a_leaf_that_joins_takes_shards_and_moves_none_between_others(
    places: list[Place], zone: str, replicas: int
) -> None:
    joined = Place("new", zone)
    for shard in range(SHARDS):
        before = set(holders("uid", shard, places, replicas))
        after = set(holders("uid", shard, [*places, joined], replicas))
        assert after <= before | {"new"}
        assert len(before - after) <= 1
        if "new" not in after:
            assert after == before


@given(PLACES, REPLICAS)
def test_the_order_in_which_leaves_are_known_does_not_matter(places: list[Place], replicas: int) -> None:
    for shard in range(SHARDS):
        assert holders("uid", shard, places, replicas) == holders("uid", shard, places[::-1], replicas)


@given(PLACES, REPLICAS, st.booleans())
def test_what_leaves_find_for_themselves_is_what_each_shard_finds(
    places: list[Place], replicas: int, is_whole: bool
) -> None:
    for place in places:
        mine = shards_of(place.name, "uid", SHARDS, places, replicas=replicas, is_whole=is_whole)
        expected = {
            shard
            for shard in range(SHARDS)
            if place.name in holders("uid", WHOLE if is_whole else shard, places, replicas)
        }
        assert mine == expected


def test_shards_are_spread_by_capacity() -> None:
    places = [Place("large", capacity=2.0), *(Place(f"small-{number}") for number in range(6))]
    held = Counter(holders(f"uid-{number}", shard, places, 1)[0] for number in range(40) for shard in range(100))
    assert 0.22 < held["large"] / 4000 < 0.28  # 2 of 8
    assert all(0.10 < held[f"small-{number}"] / 4000 < 0.15 for number in range(6))  # 1 of 8


def test_small_collections_are_spread_too() -> None:
    places = [Place(f"leaf-{number}") for number in range(4)]
    held = Counter(name for number in range(2000) for name in holders(f"uid-{number}", WHOLE, places, 2))
    assert all(900 < count < 1100 for count in held.values())


def test_placement_never_changes_between_releases() -> None:
    """Leaves of two releases serve together during an upgrade."""
    places = [Place(f"leaf-{number}", zone=f"zone-{number % 2}", capacity=1 + number) for number in range(4)]
    found = [holders("0123456789abcdef", shard, places, 2) for shard in (WHOLE, 0, 1, 2)]
    assert found == GOLDEN


GOLDEN = [["leaf-2", "leaf-1"], ["leaf-1", "leaf-2"], ["leaf-3", "leaf-2"], ["leaf-0", "leaf-1"]]
