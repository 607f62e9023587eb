"""A collection's fit: its state, and requests for another one. How it goes on is in `fit_steps`.

Embeddings are buffered until there are several times as many as the sample, or the collection stops growing. A
binarizer is fitted to a sample of them and becomes the active version, and what was buffered is re-encoded. The state
of a fit follows from the document of the collection and from its points, so whatever is cut short goes on at the next
start.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from bebr.config import Limits
from bebr.core.types import JobState
from bebr.encoding.quantization.training import least_rows
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.registry import CollectionRegistry
from bebr.engine.collections.schema import CollectionDocument, FitPlan, FitSource
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.events import CollectionEvents
from bebr.engine.statuses import FitState, FitStatus
from bebr.engine.versions.fit_choice import codec_of
from bebr.engine.versions.fit_from_codes import check_finer, converted
from bebr.engine.versions.fit_plan import make_plan, most_collected
from bebr.engine.versions.fit_progress import FitProgress
from bebr.errors import Conflict, InvalidOption

CANCELLED = "cancelled by request"
"""Why a cancelled fit has failed."""


class Fits:
    """The fits of all collections."""

    def __init__(
        self, registry: CollectionRegistry, events: CollectionEvents, limits: Limits, progress: FitProgress
    ) -> None:
        self._registry = registry
        self._events = events
        self._limits = limits
        self._progress = progress
        self._at_rest: dict[str, FitPlan] = {}
        """The fits whose collections have stopped growing, by uid of the collection. The next one may have an equal
        plan, and is another."""

    def state(self, collection: Collection) -> FitState | None:
        """None: no fit was ever requested."""
        fit = collection.document.fit
        if fit is None:
            return None
        if fit.cancelled:
            return FitState.CANCELLED
        if self._progress.of(collection.document.uid) is not None:
            return FitState.FITTING
        buffered = collection.buffered()
        if fit.due and fit.source is not FitSource.WRITES:
            return FitState.FITTING
        if fit.failed is not None:
            return FitState.FAILED
        if collection.active.kind is not VersionKind.BUFFERED:
            return FitState.CONVERTING if buffered or self._left(collection) else FitState.DONE
        begins = fit.due or self._at_rest.get(collection.document.uid) is fit
        return FitState.FITTING if begins or buffered >= self._most(collection, fit) else FitState.COLLECTING

    def status(self, collection: Collection) -> FitStatus | None:
        """None: no fit was ever requested."""
        document, state = collection.document, self.state(collection)
        fit = document.fit
        if fit is None or state is None:
            return None
        fitted = document.fitted if fit.kept is None else document.versions[fit.kept]
        metrics = _reported(fit, fitted)
        return FitStatus(
            state=state,
            bytes=fit.bytes,
            sample=fit.sample,
            collected=collection.buffered() + self._left(collection),
            detail=self._progress.of(document.uid) or fit.failed or self._waits(collection, state),
            version=None if fitted is None else fitted.id,
            code=None if fitted is None else str(fitted.spec),
            recall_at_10=metrics.get("recall_at_10"),
            queries=metrics.get("queries"),
            searched=metrics.get("searched"),
            points=metrics.get("points"),
            drift=fit.drift,
            refit_proposed=None if fit.drift is None else self.proposes(fit),
            rescore_bytes=fit.rescore_bytes,
            rescored_recall_at_10=metrics.get("rescored_recall_at_10"),
            candidates=_candidates(collection, fitted),
            fitted_to=None if fitted is None else fitted.metrics.get("fitted_to"),
            cpu_seconds=fit.cpu_seconds,
        )

    def _left(self, collection: Collection) -> int:
        """How many points still have the codes that a fit was made from; buffered ones are not counted."""
        points = collection.shards.points()
        return sum(points.get(version.number, 0) for version in converted(collection.document))

    def waits_for_rest(self, collection: Collection) -> bool:
        """Whether a fit begins as soon as the collection stops growing: it has its sample, and would rather have more
        to draw it from."""
        fit = collection.document.fit
        collecting = fit is not None and self.state(collection) is FitState.COLLECTING
        return collecting and fit is not None and collection.buffered() >= fit.sample

    def end_collecting(self, collection: Collection) -> None:
        """The collection has stopped growing: draw the sample from what there is. A restart finds it anew."""
        fit = collection.document.fit
        if fit is not None and self.waits_for_rest(collection):
            self._at_rest[collection.document.uid] = fit

    def proposes(self, fit: FitPlan) -> bool:
        """Whether points have changed so much since the fit that another one would serve them better."""
        if fit.drift is None or not self._limits.proposes_fits:
            return False
        return 100 * fit.drift >= self._limits.fit_drift_percent

    def forget(self, collection: Collection) -> None:
        """Let go of a collection that is about to be closed."""
        self._at_rest.pop(collection.document.uid, None)

    def _waits(self, collection: Collection, state: FitState) -> str | None:
        """What a fit with enough embeddings waits for."""
        fit = collection.document.fit
        if fit is None or state is not FitState.COLLECTING or collection.buffered() < fit.sample:
            return None
        return (
            f"draws its sample at {self._most(collection, fit):,} points, or once the collection has not grown for "
            f"{self._limits.fit_rest_seconds:g} s"
        )

    def _most(self, collection: Collection, fit: FitPlan) -> int:
        return most_collected(fit, collection.active.spec.record_size_bytes, self._limits)

    def check_quiet(self, collection: Collection) -> None:
        """Raise Conflict during a fit, which decides over the active version."""
        state = self.state(collection)
        harmless = state in (FitState.FAILED, FitState.CANCELLED) and collection.active.kind is not VersionKind.BUFFERED
        if state not in (None, FitState.DONE) and not harmless:
            raise Conflict(f"a fit of '{collection.name}' is {state}; wait until it is done", state=str(state))

    @contextmanager
    def running(self, collection: Collection, detail: str) -> Iterator[Callable[[str], None]]:
        """Keep the state at fitting while a fit is computed. Yields what reports its progress, from any thread."""
        uid = collection.document.uid
        self._progress.begin(uid, detail)
        try:
            yield lambda detail: self._progress.say(uid, detail)
        finally:
            self._progress.end(uid)

    async def request(
        self,
        name: str,
        *,
        size_bytes: int | None = None,
        rescore_bytes: int | None = None,
        sample: int | None = None,
        cpu_seconds: float | None = None,
        now: bool = False,
        source: FitSource = FitSource.WRITES,
    ) -> FitStatus:
        """Collect the next embeddings for a new binarizer, or fit one `now` to those that are buffered; or fit one to
        another source.

        Existing points keep their codes; both are searched together. None: as in the fit before. Raises InvalidOption;
        Conflict while a fit is running or where too few embeddings are buffered.
        """
        collection = self._registry.get_to_change(name)
        if now and source is not FitSource.WRITES:
            raise InvalidOption("'now' does not apply with 'from', which collects nothing", key="now")

        async def requested() -> FitStatus:
            document = collection.document
            if (state := self.state(collection)) in (FitState.FITTING, FitState.CONVERTING):
                raise Conflict(f"a fit of '{collection.name}' is {state} already; wait until it is done", state=state)
            backfill = document.upgrades.backfill
            if backfill is not None and backfill.state is JobState.RUNNING:
                raise Conflict(f"backfill {backfill.job} of '{collection.name}' is running; pause it", job=backfill.job)
            keeps_finer = source is FitSource.CODES and document.active_version.spec.rescore is not None
            plan = self._plan(collection, size_bytes, rescore_bytes, sample, now, keeps_finer)
            plan = replace(plan, cpu_seconds=cpu_seconds or self._limits.fit_cpu_seconds or None)
            if source is not FitSource.WRITES:
                return await self._request_from(collection, plan, source)
            buffered = document.buffered
            if buffered is None or buffered.model_fingerprint != document.active_version.model_fingerprint:
                self._check_count(document, 2)
                buffered = _new_buffered(collection)
                document = replace(document, versions=(*document.versions, buffered))
            self._check_count(document, 1)
            await self._registry.replace(collection, replace(document, active=buffered.number, fit=plan))
            return self._requested(collection)

        return await self._registry.changing(requested)

    async def cancel(self, collection: Collection) -> None:
        """End a fit that collects or is computed; points stay as they are, and another one may be requested. Raises
        Conflict once its binarizer is in use."""

        def cancelled(document: CollectionDocument) -> CollectionDocument:
            if (state := self.state(collection)) is FitState.CONVERTING:
                raise Conflict(
                    f"the fit of '{collection.name}' is converting: its binarizer is in use already; wait until it is "
                    "done, then promote another version",
                    state=state,
                )
            if document.fit is None or state not in (FitState.COLLECTING, FitState.FITTING):
                return document
            return replace(document, fit=replace(document.fit, due=False, failed=CANCELLED, cancelled=True))

        await self._registry.update(collection, cancelled)

    async def _request_from(self, collection: Collection, plan: FitPlan, source: FitSource) -> FitStatus:
        """Fit to what is there already; the active version stays so until then. The registry is locked."""
        self._check_count(collection.document, 1)
        active = collection.active
        if source is FitSource.CODES:
            check_finer(collection)
        elif not collection.reservoir.takes(active.model_fingerprint, collection.codec(active).embedding_dims):
            raise Conflict(
                f"no embeddings are kept of points of '{collection.name}'; they will be from its next fit on. Request "
                "that without 'from'",
                key="from",
            )
        if (before := collection.document.fit) is not None:  # what is known of the active version stays until then
            plan = replace(plan, kept=before.kept, at_fit=before.at_fit, latest=before.latest)
        plan = replace(plan, due=True, source=source)
        await self._registry.replace(collection, replace(collection.document, fit=plan))
        return self._requested(collection)

    def _requested(self, collection: Collection) -> FitStatus:
        self._events.changed(collection)
        status = self.status(collection)
        assert status is not None, "a fit was requested"
        return status

    def _plan(
        self,
        collection: Collection,
        size_bytes: int | None,
        rescore_bytes: int | None,
        sample: int | None,
        now: bool,
        keeps_finer: bool = False,
    ) -> FitPlan:
        """keeps_finer: rescore codes keep their size unless another one is requested."""
        dims = collection.encoders.dims(collection.active)
        if dims is None:
            raise Conflict(
                f"collection '{collection.name}' holds codes of your own; a binarizer can only be fitted to embeddings"
            )
        before, active = collection.document.fit, collection.active
        if size_bytes is None:
            size_bytes = before.bytes if before is not None else active.spec.code_size_bytes
        if rescore_bytes is None:
            last = active.spec.rescore_code_size_bytes if before is None or keeps_finer else before.rescore_bytes
            rescore_bytes = last or 0
        if not now:
            sample = sample if sample is not None or before is None else before.sample
            return make_plan(size_bytes, sample, dims, self._limits, rescore_bytes=rescore_bytes)
        if sample is not None:
            raise InvalidOption("'sample' does not apply with 'now', which takes what there is", key="sample")
        collected, least = collection.buffered(), least_rows(dims)
        if collected < least:
            raise Conflict(
                f"a fit to embeddings of {dims} dims needs at least {least}, and {collected} are buffered; write more "
                "points, or the same ones again",
                collected=collected,
                needed=least,
            )
        sample = before.sample if before else None
        return replace(make_plan(size_bytes, sample, dims, self._limits, rescore_bytes=rescore_bytes), due=True)

    def _check_count(self, document: CollectionDocument, more: int) -> None:
        after = len(document.versions) + more
        if after > self._limits.max_versions:
            raise Conflict(
                f"the collection would have {after} code versions, and the limit is {self._limits.max_versions}; raise "
                "max_versions, or write the points into a new collection",
                key="max_versions",
            )


def _reported(fit: FitPlan, fitted: Version | None) -> Mapping[str, Any]:
    """What was measured last of the version that a fit chose."""
    if fitted is None:
        return {}
    if fit.latest is not None and fit.latest.version == fitted.number:
        return asdict(fit.latest)
    return fitted.metrics


def _candidates(collection: Collection, fitted: Version | None) -> int | None:
    if fitted is None or fitted.spec.rescore is None:
        return None
    codec = codec_of(collection, fitted)
    return None if codec is None else codec.bundle.rescore_candidates


def _new_buffered(collection: Collection) -> Version:
    """One more version, for embeddings of the active version's model."""
    active, number = collection.active, len(collection.document.versions)
    dims = collection.codec(active).embedding_dims
    return Version.buffered(number, dims, active.model, active.model_fingerprint)
