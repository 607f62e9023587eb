"""Evaluates a version before it is promoted: what its queries would find, on a sample of the points and their codes."""

import asyncio
import time
from collections.abc import Set
from concurrent.futures import Executor
from dataclasses import replace

from bebr.config import Limits
from bebr.encoding import AdapterKind
from bebr.encoding.adapters.adapter import TextAdapter
from bebr.encoding.adapters.evaluation import Pool, measure
from bebr.encoding.adapters.quality import UpgradeMatrix
from bebr.engine.admission import Lane
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.collections.upgrades import Evaluation
from bebr.engine.collections.version import Version
from bebr.engine.requests import EvaluationRequest
from bebr.engine.texts import TextQueues
from bebr.engine.versions.calibration import Calibrations, Sample
from bebr.engine.versions.evaluation_data import MIN_POINTS, Comparison, draw_sample, read_points, read_queries
from bebr.errors import Conflict, InvalidOption, Overloaded, VersionNotFound

MAX_EVALUATIONS = 20
"""Evaluations that a collection keeps."""


class Evaluator:
    """Runs evaluations, one at a time."""

    def __init__(
        self,
        registry: CollectionRegistry,
        calibrations: Calibrations,
        limits: Limits,
        threads: Executor,
        texts: TextQueues,
        lane: Lane,
    ) -> None:
        self._registry = registry
        self._calibrations = calibrations
        self._limits = limits
        self._threads = threads
        self._texts, self._lane = texts, lane
        self._one_at_a_time = asyncio.Semaphore(1)

    async def evaluate(self, name: str, version_id: str | None, request: EvaluationRequest) -> Evaluation:
        """Measure a version against the active one; None: the newest. The result is kept for the gate of a promotion.

        Raises InvalidOption, VersionNotFound, Conflict where the collection lacks what is needed, Overloaded.
        """
        collection = self._registry.get_to_change(name)
        active = collection.active
        version = _newest(collection) if version_id is None else collection.version(version_id)
        if version.model_fingerprint == active.model_fingerprint:
            raise Conflict(
                f"'{version.id}' has the embedding model of the active version, so its queries are the same",
                key="version",
            )
        await asyncio.to_thread(self._check, request, {active.id, version.id})
        if self._one_at_a_time.locked():
            raise Overloaded("another evaluation is running; try again later", waiting="evaluations")
        async with self._one_at_a_time:
            comparison = Comparison(
                collection=collection,
                active=active,
                version=version,
                limits=self._limits,
                threads=self._threads,
                texts=self._texts,
                lane=self._lane,
            )
            matrix, sample = await _measure(comparison, request)
            summary = await comparison.compute(matrix.summary)
        evaluation = Evaluation(active=active.id, version=version.id, at=time.time(), **vars(summary))

        def with_evaluation(document: CollectionDocument) -> CollectionDocument:
            return replace(document, upgrades=document.upgrades.with_evaluation(evaluation, MAX_EVALUATIONS))

        await self._registry.update(collection, with_evaluation)
        if sample is not None:
            await self._calibrations.save(collection, version, active, sample)
        return evaluation

    def _check(self, request: EvaluationRequest, versions: Set[str]) -> None:
        if not MIN_POINTS <= request.points <= self._limits.max_evaluation_points:
            raise InvalidOption(
                f"'points' is {MIN_POINTS} to {self._limits.max_evaluation_points}, got {request.points}", key="points"
            )
        if not 1 <= request.sample <= self._limits.max_limit:
            raise InvalidOption(f"'sample' is 1 to {self._limits.max_limit}, got {request.sample}", key="sample")
        if request.queries is None:
            return
        if not 1 <= len(request.queries) <= self._limits.max_limit:
            raise InvalidOption(f"1 to {self._limits.max_limit} queries, got {len(request.queries)}", key="queries")
        if len({query.relevant is not None for query in request.queries}) > 1:
            raise InvalidOption("either all queries have 'relevant', or none has", key="queries")
        relevant = {point_id for query in request.queries for point_id in query.relevant or ()}
        if len(relevant) > request.points:
            raise InvalidOption(
                f"the queries name {len(relevant)} relevant points, more than the {request.points} to measure on; "
                "raise 'points', or give fewer queries",
                key="points",
            )
        for number, query in enumerate(request.queries):
            if unknown := sorted(set(query.vectors) - versions):
                raise InvalidOption(
                    f"queries[{number}].vectors has '{unknown[0]:.120}'; the versions that are compared are "
                    f"{', '.join(sorted(versions))}",
                    key=f"queries[{number}].vectors",
                )
            if (query.text is None) == (not query.vectors):
                raise InvalidOption(
                    f"queries[{number}] has exactly one of 'text' and 'vectors'", key=f"queries[{number}]"
                )


async def _measure(comparison: Comparison, request: EvaluationRequest) -> tuple[UpgradeMatrix, Sample | None]:
    """The matrix, measured with scores on the scale of the sample, where the points give one."""
    points = await read_points(comparison, request)
    adapter, sample = comparison.collection.encoders.adapter(comparison.version, comparison.active), None
    if adapter is not None:
        sample = await draw_sample(comparison, points, request.seed)
        if sample is not None:
            dual = sample.queries_there if len(sample.queries_there) else None
            reference, queries_here = sample.reference, sample.queries_here
            adapter = await comparison.compute(adapter.calibrated, reference, queries_here, dual)
    queries, judgments = await read_queries(comparison, request, points)
    # searches by vector cannot use a kind that needs a text
    by_vector = request.queries is not None and request.queries[0].text is None
    matrix = await comparison.compute(
        lambda: measure(
            adapter or TextAdapter(),
            Pool(points.old, points.new),
            queries,
            judgments,
            judged=request.queries is not None and request.queries[0].relevant is not None,
            kinds=[kind for kind in AdapterKind if not kind.needs_text] if by_vector else None,
            kind=request.adapter,
            seed=request.seed,
        )
    )
    return matrix, sample


def _newest(collection: Collection) -> Version:
    """The newest version that is not active."""
    others = [version for version in collection.document.coded if version.number != collection.active.number]
    if not others:
        raise VersionNotFound(f"'{collection.name}' has no version but the active one; attach one first")
    return others[-1]
