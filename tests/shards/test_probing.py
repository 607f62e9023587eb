"""Searches by lists: with an infinite delta they are exact searches, whatever else is wanted; else the rule's."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.shards import model, test_client_contract, test_rescoring
from tests.shards.test_listed_shards import ListedClients
from tests.waiting import until

from bebr import kernel
from bebr.core.filters import Filter, parse_filter
from bebr.core.lists import ListRule, lists_read
from bebr.core.scoring import DotQueries, dot_scores
from bebr.index import ScanQueries, probe
from bebr.index.columns import unpack_mask
from bebr.index.scan_view import ScanView
from bebr.index.segment import SegmentView
from bebr.shards import reads
from bebr.shards.local import LocalShards


class ProbingClients(ListedClients):
    """Shards whose searches all read lists, until all are read."""

    read = 0
    """Lists that were."""

    async def open(self, *args: Any, **options: Any) -> LocalShards:
        client = await super().open(*args, **options)
        search = client.search

        async def probing(queries: Sequence[ScanQueries], *more: Any, **options: Any) -> Any:
            searched = await search([self.ruled(one) for one in queries], *more, **options)
            self.read += sum(int(read.lists.sum()) for read in searched.lists.values())
            return searched

        client.search = probing  # type: ignore[method-assign]
        return client

    def ruled(self, queries: ScanQueries) -> ScanQueries:
        if not isinstance(queries.prepared, DotQueries):
            return queries
        stop_at = self.rng.integers(1, queries.limit + 1, len(queries)).astype(np.int32)
        return replace(queries, lists=ListRule(np.full(len(queries), np.inf, np.float32), stop_at))


async def settled(client: LocalShards) -> None:
    """Segments are sealed, and sorted by the lists of today."""
    await until(lambda: not client.upkeep.is_busy, "settled")


@pytest.mark.parametrize("flat_rows", [0, 1, probe.FLAT_ROWS_PER_LIST])
async def test_with_an_infinite_delta_all_searches_are_exact(
    tmp_path: Path, flat_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "FLAT_ROWS_PER_LIST", flat_rows)
    rng = np.random.default_rng([5, flat_rows])
    clients, points = ProbingClients(tmp_path, rng), model.Model(1 + flat_rows % 3)
    await clients.start()
    client = await clients.open(points.shards, head_rows=16)
    for step in range(40):
        await test_client_contract.some_write(client, points, rng)
        if step % 5 == 4:
            await settled(client)
            await test_client_contract.check(client, points, rng)
        if step % 11 == 10:
            clients.use_lists(client)
        if step % 15 == 14:
            await client.close(keep=bool(rng.random() < 0.5))
            client = await clients.open(points.shards, head_rows=16)
    assert clients.read > 10
    await clients.stop()


@pytest.mark.parametrize("seed", range(2))
async def test_with_an_infinite_delta_candidates_are_scored_again_as_those_of_exact_scans(
    tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng([6, seed])
    clients, points = ProbingClients(tmp_path, rng), test_rescoring.Model(1 + seed, {})
    await clients.start()
    client = await clients.open(points.shards, specs=test_rescoring.SPECS, head_rows=16)
    for step in range(12):
        await test_rescoring.write(client, points, rng, int(rng.integers(3)), int(rng.integers(40, 90)))
        await settled(client)
        await test_rescoring.check(client, points, rng)
        if step % 6 == 5:
            await client.close(keep=bool(rng.random() < 0.5))
            client = await clients.open(points.shards, specs=test_rescoring.SPECS, head_rows=16)
            await test_rescoring.check(client, points, rng)
    assert clients.read > 10
    await clients.stop()


class Rows:
    """All rows of one version in a view: which count, their scores, and in which list of which generation they are."""

    def __init__(self, view: ScanView, queries: ScanQueries, query: int) -> None:
        held = view.lists[queries.version]
        first = {table.generation: sum(map(len, held.tables[:n])) for n, table in enumerate(held.tables)}
        assert isinstance(queries.prepared, DotQueries)
        prepared = DotQueries(queries.prepared.values[query : query + 1], queries.prepared.scales[query : query + 1])
        self.of_centroids = np.concatenate([kernel.centroid_scores(table, prepared)[0] for table in held.tables])
        ids, scores, lists, matching = [], [], [], 0
        for place in view.of_version[queries.version].places:
            part, condition = view.parts[place], queries.filters[query]
            some = np.flatnonzero(unpack_mask(part.live if condition is None else part.mask(condition), part.rows))
            codes = kernel.unpack(part.blocked, part.spec, some)
            # a code without its rescore code
            scan_spec = part.spec.scan if part.spec.rescore else part.spec
            ids += part.ids_at(some.tolist())
            scores.append(dot_scores(prepared, codes, part.gains[some], scan_spec)[0])
            of_part = np.full(len(some), -1)
            if isinstance(part, SegmentView) and part.segment.lists and place in held.places:
                of_part = first[part.segment.lists.generation] + part.segment.lists.numbers()[some]
                matching += part.segment.matches(condition).rows if condition is not None else 0
            lists.append(of_part)
        self.ids, self.scores = np.array(ids), np.concatenate(scores)
        self.lists = np.concatenate(lists)
        self.flat_rows = (held.rows if queries.filters[query] is None else matching) // 2

    def found(self, delta: float, stop_at: int, floor: float, limit: int) -> tuple[list[str], int, int]:
        """-> ids of the hits, lists read, rows read."""
        of_list = [np.flatnonzero(self.lists == number) for number in range(len(self.of_centroids))]
        first_rows = np.flatnonzero(self.lists < 0)
        read, rows = lists_read(
            self.of_centroids, of_list, self.scores, first_rows, stop_at=stop_at, delta=delta, floor=floor
        )
        before = np.cumsum([0, *(len(of_list[number]) for number in read)])
        lists = len(read)
        if (before[:-1] > self.flat_rows).any():
            lists = int((before[:-1] <= self.flat_rows).sum())
            rows = np.arange(len(self.scores))
        best = sorted(rows.tolist(), key=lambda row: (-self.scores[row], self.ids[row]))
        return [self.ids[row] for row in best if self.scores[row] >= floor][:limit], lists, len(rows)


def random_rule(rng: np.random.Generator, queries: ScanQueries, scores: NDArray[np.float32]) -> ScanQueries:
    """With floors and deltas in the range of the scores."""
    spread = float(scores.std())
    floors = np.where(rng.random(len(queries)) < 0.7, -np.inf, rng.normal(0, spread, len(queries))).astype(np.float32)
    deltas = rng.normal(0, spread, len(queries)).astype(np.float32)
    stop_at = rng.integers(1, queries.limit + 1, len(queries)).astype(np.int32)
    return replace(queries, floors=floors, lists=ListRule(deltas, stop_at))


@pytest.mark.parametrize("seed", range(4))
async def test_lists_are_read_by_the_rule_over_all_parts_and_generations(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "FLAT_ROWS_PER_LIST", 0)
    rng = np.random.default_rng([4, seed])
    clients, points = ListedClients(tmp_path, rng), model.Model(1 + seed % 2)
    await clients.start()
    client = await clients.open(points.shards, head_rows=16)
    checked = stopped = 0
    for step in range(30):
        await test_client_contract.some_write(client, points, rng)
        if step % 13 == 12:
            clients.use_lists(client)
        await settled(client)
        view = client._scan_view()
        for version in view.lists:
            filters: list[Filter | None] = [None, parse_filter(model.FILTERS[step % len(model.FILTERS)], model.FIELDS)]
            queries = model.random_queries(rng, version, filters, int(rng.choice([1, 3, 10])), "sdc")
            rows = [Rows(view, queries, query) for query in range(len(queries))]
            ruled = random_rule(rng, queries, rows[0].of_centroids)
            assert ruled.lists is not None
            searched = reads.search(view, [ruled])
            if not (read := searched.lists.get(version)):
                continue  # most rows are in no list
            for query, (of_query, found) in enumerate(zip(rows, searched.found, strict=True)):
                delta, stop_at = float(ruled.lists.deltas[query]), int(ruled.lists.stop_at[query])
                expected = of_query.found(delta, stop_at, float(ruled.floors[query]), queries.limit)
                if read.is_whole[query]:  # the filter holds for no row in lists
                    assert (found.ids, int(read.lists[query]), int(read.rows[query])) == (expected[0], 0, 0)
                else:
                    assert (found.ids, int(read.lists[query]), int(read.rows[query])) == expected
                checked += 1
                stopped += expected[1] < read.held.lists
    assert checked > 20 and stopped > 10
    await clients.stop()
