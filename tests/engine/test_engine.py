"""The engine on a real store: what is written is found, named, kept over restarts, and never mixed up."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.running import running, settings

from bebr.bootstrap import build_engine
from bebr.core.codes import CodeSpec, cosine_gains, pack_levels
from bebr.core.scoring import Scorer, dot_scores, prepare_sdc
from bebr.core.types import FieldType, WriteMode
from bebr.engine import AliasChange, CollectionSettings, Engine, SearchRequest
from bebr.errors import (
    AlreadyExists,
    CollectionNotFound,
    IdempotencyConflict,
    InsufficientStorage,
    InvalidOption,
    NotReady,
    PointNotFound,
)

SPEC = CodeSpec.parse("24x2")
FIELDS = {"lang": FieldType.KEYWORD, "n": FieldType.INTEGER}


def codes(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return pack_levels(rng.integers(0, 4, (count, SPEC.dims)).astype(np.uint8), SPEC)


def point(number: int, code: np.ndarray, **metadata: Any) -> dict[str, Any]:
    return {"id": f"p{number:03d}", "code_b64": base64.b64encode(code.tobytes()).decode(), "metadata": metadata}


def points(count: int, seed: int = 0) -> list[dict[str, Any]]:
    return [point(i, code, lang=["en", "de"][i % 2], n=i) for i, code in enumerate(codes(count, seed))]


async def make(engine: Engine, name: str = "docs", **changes: Any) -> None:
    await engine.create_collection(name, CollectionSettings(code=str(SPEC), filterable=FIELDS, **changes))


async def search(engine: Engine, code: np.ndarray, **changes: Any) -> Any:
    return (await engine.search("docs", [SearchRequest(code=code.tobytes(), **changes)]))[0]


async def test_what_is_written_is_found_before_and_after_a_restart(tmp_path: Path) -> None:
    data = codes(100)
    gains = cosine_gains_of(data)
    steps = np.ones(1, np.float32)
    expected = dot_scores(prepare_sdc(data[:5], gains[:5], SPEC, steps), data, gains, SPEC)
    async with running(tmp_path) as engine:
        await make(engine)
        report = await engine.write_points("docs", points(100), WriteMode.UPSERT)
        assert report.applied == 100 and report.rejected == 0 and sum(report.seq.values()) == 100
        await check_hits(engine, data, expected)
    async with running(tmp_path) as engine:
        await check_hits(engine, data, expected)
        assert sum((await engine.describe_collection("docs")).points.values()) == 100


async def check_hits(engine: Engine, data: np.ndarray, expected: np.ndarray) -> None:
    for query in range(5):
        result = await search(engine, data[query], limit=7)
        order = sorted(range(100), key=lambda i: (-expected[query, i], i))[:7]
        assert [hit.id for hit in result.hits] == [f"p{i:03d}" for i in order]
        assert np.array_equal(np.array([hit.score for hit in result.hits], np.float32), expected[query, order])
        assert json.loads(result.hits[0].metadata or "")["n"] == order[0]
        assert result.searched == {"24x2": 100} and result.query_version == "24x2"


def cosine_gains_of(data: np.ndarray) -> np.ndarray:
    from bebr.core.codes import unpack_levels

    return cosine_gains(unpack_levels(data, SPEC), SPEC, np.ones(1, np.float32))


async def test_bad_points_are_named_and_the_others_applied(tmp_path: Path) -> None:
    good = points(3)
    bad: list[object] = [
        {"id": 7, "code_b64": good[0]["code_b64"]},
        {"id": "", "code_b64": good[0]["code_b64"]},
        {"code_b64": good[0]["code_b64"]},
        {"id": "x1", "code_b64": "AAAA"},
        {"id": "x2", "code_b64": "not base64!"},
        {"id": "x3", "vector": [1.0]},
        {"id": "x4", "text": "hello"},
        {"id": "x5"},
        {"id": "x6", "code_b64": good[0]["code_b64"], "colour": "red"},
        {"id": "x7", "code_b64": good[0]["code_b64"], "metadata": {"n": "seven"}},
        {"id": "x8", "code_b64": good[0]["code_b64"], "metadata": [1]},
        {"id": "p000", "code_b64": good[0]["code_b64"]},
        "nonsense",
    ]
    async with running(tmp_path) as engine:
        await make(engine)
        report = await engine.write_points("docs", good + bad, WriteMode.UPSERT)
        assert (report.applied, report.rejected) == (3, len(bad))
        assert [item.index for item in report.items] == list(range(3, 3 + len(bad)))
        assert [item.error for item in report.items] == [
            "InvalidId", "InvalidId", "InvalidOption", "DimensionMismatch", "InvalidCode", "InvalidOption",
            "InvalidOption", "InvalidOption", "InvalidOption", "InvalidMetadata", "InvalidMetadata",
            "DuplicateId", "InvalidOption",
        ]  # fmt: skip
        assert await engine.count("docs", None) == 3


async def test_modes_say_what_happens_to_what_exists(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await make(engine)
        await engine.write_points("docs", points(2), WriteMode.UPSERT)
        report = await engine.write_points("docs", points(3), WriteMode.INSERT_ONLY)
        assert report.applied == 1 and {item.error for item in report.items} == {"AlreadyExists"}
        report = await engine.write_points("docs", points(4, seed=1), WriteMode.UPDATE_ONLY)
        assert report.applied == 3 and [(item.id, item.error) for item in report.items] == [("p003", "PointNotFound")]
        found, missing = await engine.get_points("docs", ["p003", "p001"], with_code=True)
        assert missing == ["p003"] and json.loads(found[0].metadata or "") == {"lang": "de", "n": 1}
        assert (found[0].code or b"")[: SPEC.code_size_bytes] == codes(4, seed=1)[1].tobytes()


async def test_an_idempotency_key_applies_once(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await make(engine)
        first = await engine.write_points("docs", points(5), WriteMode.INSERT_ONLY, "key")
        again = await engine.write_points("docs", points(5), WriteMode.INSERT_ONLY, "key")
        assert first == again and first.applied == 5
        with pytest.raises(IdempotencyConflict):
            await engine.write_points("docs", points(5, seed=1), WriteMode.INSERT_ONLY, "key")
        assert await engine.count("docs", None) == 5


async def test_delete_scroll_count_and_metadata_by_filter(tmp_path: Path) -> None:
    german = {"must": [{"key": "lang", "match": {"value": "de"}}]}
    async with running(tmp_path) as engine:
        await make(engine)
        await engine.write_points("docs", points(100), WriteMode.UPSERT)
        assert await engine.count("docs", german) == 50
        seen: list[str] = []
        cursor = None
        while True:
            page = await engine.scroll("docs", german, 7, cursor)
            seen += [point.id for point in page.points]
            if (cursor := page.cursor) is None:
                break
        assert seen == [f"p{i:03d}" for i in range(1, 100, 2)]
        assert (await engine.delete_points("docs", filter=german, dry_run=True)).points == 50
        changed = await engine.set_metadata("docs", ["p001", "p003", "absent"], None, {"lang": "fr", "n": None})
        assert changed.points == 2
        assert json.loads((await engine.get_points("docs", ["p001"]))[0][0].metadata or "") == {"lang": "fr"}
        assert (await engine.delete_points("docs", filter=german)).points == 48
        assert (await engine.delete_points("docs", ["p000", "absent"])).points == 1
        assert await engine.count("docs", None) == 51
        result = await search(
            engine, codes(100)[1], limit=100, filter={"must": [{"key": "lang", "match": {"value": "fr"}}]}
        )
        assert {hit.id for hit in result.hits} == {"p001", "p003"}


async def test_search_options(tmp_path: Path) -> None:
    data = codes(100)
    async with running(tmp_path) as engine:
        await make(engine)
        await engine.write_points("docs", points(100), WriteMode.UPSERT)
        everything = (await search(engine, data[0], limit=100)).hits
        paged = await search(engine, data[0], limit=10)
        ids = [hit.id for hit in paged.hits]
        while paged.cursor is not None and len(ids) < 100:
            paged = await search(engine, data[0], limit=10, cursor=paged.cursor)
            ids += [hit.id for hit in paged.hits]
        assert ids == [hit.id for hit in everything]
        assert [h.id for h in (await search(engine, data[0], limit=5, offset=5)).hits] == ids[5:10]
        threshold = everything[30].score
        cut = (await search(engine, data[0], limit=100, score_threshold=threshold)).hits
        assert [h.id for h in cut] == [h.id for h in everything if np.float32(h.score) >= np.float32(threshold)]
        hamming = (await search(engine, data[0], scorer=Scorer.HAMMING, limit=100, score_threshold=0.25)).hits
        assert hamming[0].distance == 0 and all(h.score >= 0.25 and h.distance <= 9 for h in hamming)
        by_id = (await engine.search("docs", [SearchRequest(id="p000", limit=3)]))[0].hits
        assert [h.id for h in by_id] == ids[:3]
        grouped = (await search(engine, data[0], limit=2, group_by="lang", group_size=2)).hits
        assert sorted(json.loads(h.metadata or "")["lang"] for h in grouped) == ["de", "de", "en", "en"]
        bare = (await search(engine, data[0], with_metadata=False)).hits[0]
        assert bare.metadata is None
        some = (await search(engine, data[0], with_metadata=["n", "absent"])).hits[0]
        assert json.loads(some.metadata or "") == {"n": 0}
        assert (await search(engine, data[0], explain=True)).explain.scorer == "sdc"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 10**9}, "limit"),
        ({"offset": -1}, "limit"),
        ({"scorer": Scorer.ADC}, "scorer"),
        ({"group_by": "absent"}, "group_by"),
        ({"group_size": 3}, "group_size"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"version": "other@1"}, "version"),
        ({"text": "both"}, "text"),
        ({"score_threshold": float("nan")}, "score_threshold"),
    ],
)
async def test_wrong_search_options_name_their_key(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    async with running(tmp_path) as engine:
        await make(engine)
        with pytest.raises(InvalidOption) as raised:
            await search(engine, codes(1)[0], **changes)
        assert raised.value.fields["key"] == key


async def test_codes_of_ones_own_have_no_rescore_code(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        with pytest.raises(InvalidOption, match="leave '/24x4' out"):
            await engine.create_collection("docs", CollectionSettings(code="24x2/24x4"))


async def test_concurrent_searches_and_writes_agree_with_the_quiet_answer(tmp_path: Path) -> None:
    """Many searches at once share scans; writers meanwhile never make a reader fail or see half a batch."""
    data = codes(300)
    async with running(tmp_path) as engine:
        await make(engine)
        await engine.write_points("docs", points(300), WriteMode.UPSERT)
        quiet = [[h.id for h in (await search(engine, code, limit=5)).hits] for code in data[:40]]
        busy = await asyncio.gather(*(search(engine, code, limit=5) for code in data[:40]))
        assert [[h.id for h in result.hits] for result in busy] == quiet

        async def write(number: int) -> None:
            await engine.write_points("docs", [point(1000 + number, data[number], lang="xx", n=0)], WriteMode.UPSERT)

        english = {"must": [{"key": "lang", "match": {"any": ["en", "de"]}}]}
        answers = await asyncio.gather(
            *(write(i) for i in range(60)), *(search(engine, code, limit=5, filter=english) for code in data[:40])
        )
        assert [[h.id for h in result.hits] for result in answers[60:]] == quiet
        assert await engine.count("docs", None) == 360


async def test_collections_and_aliases_share_names(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await make(engine)
        await make(engine, "other")
        with pytest.raises(AlreadyExists):
            await make(engine)
        await engine.change_aliases([AliasChange("prod", "docs")])
        with pytest.raises(AlreadyExists):
            await make(engine, "prod")
        await engine.write_points("prod", points(3), WriteMode.UPSERT)
        assert await engine.count("docs", None) == 3
        with pytest.raises(CollectionNotFound):
            await engine.change_aliases([AliasChange("prod", None), AliasChange("next", "absent")])
        assert engine.list_aliases() == {"prod": "docs"}
        with pytest.raises(InvalidOption):
            await engine.delete_collection("prod")
        await engine.delete_collection("docs")
        assert engine.list_aliases() == {}
        with pytest.raises(CollectionNotFound):
            await engine.count("docs", None)
        await make(engine)
        assert await engine.count("docs", None) == 0
    async with running(tmp_path) as engine:
        assert [collection.name for collection in engine.list_collections()] == ["docs", "other"]


async def test_a_damaged_segment_is_rebuilt_from_the_store(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await make(engine, shards=1)
        await engine.write_points("docs", points(100), WriteMode.UPSERT)
        await engine.delete_points("docs", ["p005"])
    flip_a_bit(tmp_path)
    async with running(tmp_path) as engine:
        assert await engine.count("docs", None) == 99
        assert (await search(engine, codes(100)[7], limit=1)).hits[0].id == "p007"


def flip_a_bit(folder: Path) -> None:
    segment = next(folder.glob("collections/*/shard-0/*.seg"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)


async def test_low_disk_refuses_writes_but_not_searches(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await make(engine)
        await engine.write_points("docs", points(3), WriteMode.UPSERT)
    async with running(tmp_path, min_free_disk_bytes=2**60) as engine:
        with pytest.raises(InsufficientStorage, match="disk"):
            await engine.write_points("docs", points(3), WriteMode.UPSERT)
        assert len((await search(engine, codes(3)[0])).hits) == 3
    async with running(tmp_path, max_memory_bytes=1) as engine:
        with pytest.raises(InsufficientStorage, match="memory"):
            await engine.write_points("docs", points(3), WriteMode.UPSERT)


async def test_nothing_is_answered_before_the_start(tmp_path: Path) -> None:
    engine = build_engine(settings(tmp_path))
    assert not engine.readiness().ready
    with pytest.raises(NotReady):
        await engine.count("docs", None)


async def test_searching_by_an_absent_id_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await make(engine)
        with pytest.raises(PointNotFound):
            await engine.search("docs", [SearchRequest(id="absent")])
