"""A follower is what the primary is at each step of an upgrade, of a fit, of a backfill. The oracle is the primary."""

import json
from pathlib import Path

from tests.encoding.quantization.embeddings import text_like
from tests.engine import fitting, listing, upgrading
from tests.engine.following import Pair, agree, following
from tests.engine.running import running_jobs
from tests.waiting import until

from bebr.engine import EvaluationRequest, Gate, SearchRequest
from bebr.engine.results import SearchResult


async def same_answers(two: Pair, requests: list[SearchRequest]) -> None:
    """At once, and to the last digit."""
    await agree(two)
    answers = [told(await engine.search("docs", requests)) for engine in (two.primary, two.follower)]
    assert answers[0][0], "nothing was found"
    assert answers[1] == answers[0]


def told(answers: list[SearchResult]) -> list[list[tuple[str, float, str]]]:
    return [[(hit.id, hit.score, hit.version) for hit in answer.hits] for answer in answers]


async def test_every_step_of_an_upgrade_is_followed(tmp_path: Path, bundles: Path) -> None:
    queries = [SearchRequest(text=text, limit=30) for text in upgrading.TEXTS[120:124]]
    async with (
        upgrading.upgrading_jobs(tmp_path, bundles, shares=True) as (primary, jobs),
        following(tmp_path, bundles_dir=bundles, search_threads=1, encoder_threads=1) as follower,
    ):
        two = Pair(primary, jobs, follower)
        await same_answers(two, queries)
        await primary.versions.attach("docs", "new@1")
        await same_answers(two, queries)
        await primary.evaluator.evaluate("docs", None, EvaluationRequest(sample=40, points=100))
        await same_answers(two, queries)
        await primary.versions.promote("docs", "new@1", Gate(), force=True)
        await upgrading.write(primary, range(0, 120, 3))
        await same_answers(two, queries)
        await primary.versions.rollback("docs")
        await same_answers(two, queries)
        await primary.versions.promote("docs", "new@1", Gate(), force=True)
        job = await jobs.backfill.submit("docs", rate=upgrading.FAST)
        await upgrading.ended(jobs, job)
        await same_answers(two, queries)
        await primary.versions.retire("docs", "old@1")
        await same_answers(two, queries)


async def test_a_fit_is_followed(tmp_path: Path) -> None:
    queries = [SearchRequest(vector=row, limit=20) for row in text_like(10, seed=5, dims=fitting.DIMS)]
    async with running_jobs(tmp_path, shares=True) as (primary, jobs), following(tmp_path) as follower:
        two = Pair(primary, jobs, follower)
        await fitting.make(primary)
        await fitting.write(primary, range(200))
        await same_answers(two, queries)
        await fitting.write(primary, range(200, 900))
        await fitting.reached(primary, "done")
        await same_answers(two, queries)
        await primary.fits.request("docs", size_bytes=16)
        await fitting.write(primary, range(0, 400))
        await fitting.reached(primary, "done")
        await same_answers(two, queries)


async def test_what_a_fit_is_doing_is_told_by_every_process(tmp_path: Path) -> None:
    async with running_jobs(tmp_path, shares=True) as (primary, _), following(tmp_path) as follower:
        collection = await fitting.make(primary)
        assert (await fitting.fit_of(follower)).state == "collecting"
        with primary.fits.running(collection, "waiting for another fit") as report:
            for detail in ("waiting for another fit", "3 of 7: step"):
                report(detail)
                for engine in (primary, follower):
                    told = await fitting.fit_of(engine)
                    assert (told.state, told.detail) == ("fitting", detail)
        report("too late")
        assert (await fitting.fit_of(follower)).state == "collecting"
    (tmp_path / "shared-fits").write_text(json.dumps({collection.document.uid: "of a process that was killed"}))
    async with running_jobs(tmp_path, shares=True), following(tmp_path) as follower:
        assert (await fitting.fit_of(follower)).state == "collecting"


async def test_lists_are_read_by_followers(tmp_path: Path) -> None:
    """At once they find the same of all codes, and by the same lists once they have read the files with these."""
    exact = [SearchRequest(vector=row, limit=10, exact=True) for row in listing.QUERIES[:20]]
    queries = [SearchRequest(vector=row, limit=10, recall=0.8, explain=True) for row in listing.QUERIES[:20]]
    async with (
        running_jobs(tmp_path, shares=True, **listing.SETTINGS) as (primary, jobs),
        following(tmp_path, **listing.SETTINGS) as follower,
    ):
        two = Pair(primary, jobs, follower)
        await listing.listed(primary)
        await same_answers(two, exact)

        async def reads_alike() -> bool:
            answers, wanted = [await engine.search("docs", queries) for engine in (follower, primary)]
            read = [one.explain.lists for one in wanted if one.explain]
            by_lists = any(read) and [one.explain.lists for one in answers if one.explain] == read
            return by_lists and told(answers) == told(wanted)

        await until(reads_alike, "the follower reads the lists of the primary")
