"""Routes between embedding models: the fewest adapters, the kinds that were chosen, texts only where one needs them."""

from collections import deque
from itertools import pairwise

import numpy as np
import pytest

from bebr.encoding import AdapterKind
from bebr.encoding.adapters.adapter import TextAdapter
from bebr.engine.collections.encoders import CollectionEncoders
from bebr.engine.search.route import Hop, choose_kind, cross, find_route


def encoders(*pairs: str) -> CollectionEncoders:
    """Adapters between models that are named by one letter, as in 'ab'."""
    return CollectionEncoders({}, {}, {(pair[0], pair[1]): TextAdapter() for pair in pairs})


def fewest(pairs: list[str], start: str, target: str) -> int | None:
    """Steps of the shortest route, by a search in breadth."""
    waiting, seen = deque([(start, 0)]), {start}
    while waiting:
        model, steps = waiting.popleft()
        if model == target:
            return steps
        for here, there in pairs:
            if here == model and there not in seen:
                seen.add(there)
                waiting.append((there, steps + 1))
    return None


@pytest.mark.parametrize("seed", range(30))
def test_the_fewest_adapters_lead_there(seed: int) -> None:
    rng = np.random.default_rng(seed)
    models = "abcdef"
    pairs = sorted({a + b for a, b in rng.choice(list(models), (int(rng.integers(1, 12)), 2)) if a != b})
    opened = encoders(*pairs)
    for target in models[1:]:
        hops = find_route(opened, "a", target, has_text=False)
        assert (hops and len(hops)) == fewest(pairs, "a", target)
        if hops is not None:
            assert hops[-1].target == target
            names = ["a", *(hop.target for hop in hops)]
            assert all(here + there in pairs for here, there in pairwise(names))


def test_without_adapters_only_the_text_leads_there() -> None:
    assert find_route(encoders("ab"), "a", "c", has_text=False) is None
    assert find_route(encoders("ab"), "a", "c", has_text=True) == [Hop("c", None)]
    assert find_route(encoders("ab"), None, "b", has_text=True) is None
    assert find_route(encoders("ab"), "a", None, has_text=True) is None


def test_a_kind_that_needs_the_text_gives_way_where_there_is_none() -> None:
    hop = Hop("b", TextAdapter())
    assert choose_kind(hop, "weighted", has_dual=True) is AdapterKind.WEIGHTED
    assert choose_kind(hop, "weighted", has_dual=False) is AdapterKind.LINEAR
    assert choose_kind(hop, "compatible", has_dual=False) is AdapterKind.COMPATIBLE
    assert choose_kind(Hop("b", None), "compatible", has_dual=True) is AdapterKind.DUAL


def test_a_hop_over_the_text_needs_its_embedding() -> None:
    rows, duals = np.eye(3, 4, dtype=np.float32), np.eye(3, 5, dtype=np.float32)
    assert cross([Hop("b", None)], rows, {}, {}) is None
    crossed = cross([Hop("b", None)], rows, {"b": duals}, {})
    assert crossed is not None
    assert [(one.scale, one.offset, one.adapters) for one in crossed] == [(1.0, 0.0, "dual")] * 3
    np.testing.assert_array_equal(np.concatenate([one.embedding for one in crossed]), duals)
