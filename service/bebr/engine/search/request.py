"""A search request, checked and completed: what is wrong with it is said here, before anything is computed."""

import base64
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bebr.config import Limits
from bebr.core.codes import CodeSpec
from bebr.core.filters import Filter
from bebr.core.scoring import Scorer
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.inputs import check_text, check_vector, read_code
from bebr.engine.requests import SearchRequest
from bebr.engine.search.route import Reached
from bebr.errors import InvalidOption
from bebr.shards import Found

MAX_GROUP_SIZE = 100
CURSOR = "search:"
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(slots=True)
class Plan:
    """A checked request on its way. wanted: hits to look for, those skipped by `offset` included.

    The query: embedding (1, embedding dims) float32, or a record of `version`. records (1, record_size_bytes) uint8: by
    number of the code version, those that are known. duals: its text, embedded by other models. reached: the query as
    one of other models; both by fingerprint. found: its hits.
    searched: how many points of which versions were scanned for them.
    """

    request: SearchRequest
    scorer: Scorer
    condition: Filter | None
    offset: int
    wanted: int
    version: Version
    embedding: NDArray[np.float32] | None = None
    records: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    duals: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    reached: dict[str, Reached] = field(default_factory=dict)
    found: Found | None = None
    searched: dict[int, int] = field(default_factory=dict)

    @property
    def is_code(self) -> bool:
        return self.request.code is not None or self.request.id is not None

    def floor(self, spec: CodeSpec) -> float:
        """The lowest score that counts, in the unit of a scan of such codes."""
        threshold = self.request.score_threshold
        if threshold is None:
            return -np.inf
        if self.scorer is Scorer.HAMMING:
            return -float(np.clip(np.floor((1 - threshold) * spec.dims / 2 + 1e-9), -1, spec.dims))
        return float(np.clip(threshold, -FLOAT32_MAX, FLOAT32_MAX))

    @property
    def hits(self) -> Found:
        assert self.found is not None, "the plan was not scanned"
        return self.found


@dataclass(frozen=True, slots=True)
class Planner:
    """Checks requests against a collection and the limits."""

    collection: Collection
    limits: Limits

    def plan(self, request: SearchRequest) -> Plan:
        """Raises InvalidRequest naming what is wrong."""
        given = [key for key in ("text", "vector", "code", "id") if getattr(request, key) is not None]
        if len(given) != 1:
            raise InvalidOption(
                f"a search has exactly one of text, vector, vector_b64, code_b64, id; got {given or 'none'}", key="text"
            )
        scorer = request.scorer or (Scorer.ADC if given[0] in ("text", "vector") else Scorer.SDC)
        if scorer is Scorer.ADC and given[0] in ("code", "id"):
            raise InvalidOption(
                "scorer 'adc' needs a float query (text or vector); use 'sdc' or 'hamming'", key="scorer"
            )
        offset = self._offset(request)
        maximum = self.limits.max_limit
        wanted = offset + request.limit
        if request.cursor is not None and offset < maximum and request.limit <= maximum:
            wanted = min(wanted, maximum)  # whoever follows cursors gets a short last page, not an error
        if request.limit < 1 or offset < 0 or wanted > maximum:
            raise InvalidOption(
                f"limit must be at least 1 and offset + limit at most {maximum}, got limit {request.limit} and offset "
                f"{offset}; use the scroll route to read everything",
                key="limit",
            )
        if request.score_threshold is not None and not np.isfinite(request.score_threshold):
            raise InvalidOption("score_threshold must be a finite number", key="score_threshold")
        version = self._version(request)
        self._check_grouping(request)
        condition = self.collection.parse_filter(request.filter)
        plan = Plan(request, scorer, condition, offset, wanted, version)
        self._read_query(plan)
        return plan

    def _read_query(self, plan: Plan) -> None:
        request, version = plan.request, plan.version
        if request.text is not None:
            check_text(request.text, self.collection.encoders.takes_text(version), self.limits.max_text_chars)
        elif request.vector is not None:
            plan.embedding = check_vector(request.vector, self.collection.codec(version).embedding_dims)
        elif request.code is not None:
            plan.records[version.number] = read_code(request.code, version.spec, version.steps)[None]

    def _version(self, request: SearchRequest) -> Version:
        """The version that the query is of: the active one, unless it says which.

        While points are buffered for a fit, a code is of the newest version that has codes.
        """
        versions = [version for version in self.collection.document.versions if not version.retired]
        active = self.collection.active
        if request.code is not None:
            coded = [version for version in self.collection.document.coded if _same_model(version, active)]
            active = coded[-1] if active.kind is VersionKind.BUFFERED and coded else active
        if request.version is None:
            return active
        if request.id is not None:
            raise InvalidOption(
                "'version' does not apply to an 'id': it is of the version of that point", key="version"
            )
        for version in versions:
            if version.id == request.version:
                return version
        names = ", ".join(f"'{version.id}'" for version in versions)
        raise InvalidOption(
            f"'{self.collection.name}' has the code versions {names}, and none '{request.version:.200}'; a query is of "
            "the version whose model made it",
            key="version",
        )

    def _check_grouping(self, request: SearchRequest) -> None:
        if request.group_by is None:
            if request.group_size != 1:
                raise InvalidOption("group_size applies only together with group_by", key="group_size")
            return
        if request.group_by not in self.collection.document.filterable:
            raise InvalidOption(f"group_by needs a filterable field, '{request.group_by}' is none", key="group_by")
        if not 1 <= request.group_size <= MAX_GROUP_SIZE:
            raise InvalidOption(f"group_size must be 1 to {MAX_GROUP_SIZE}, got {request.group_size}", key="group_size")
        if request.cursor is not None or request.offset:
            raise InvalidOption("group_by cannot be combined with offset or cursor", key="group_by")

    def _offset(self, request: SearchRequest) -> int:
        if request.cursor is None:
            return request.offset
        if request.offset:
            raise InvalidOption("give either offset or cursor, not both", key="cursor")
        try:
            position = int(base64.urlsafe_b64decode(request.cursor.encode()).decode().removeprefix(CURSOR))
        except ValueError:
            position = -1
        if position < 0 or write_cursor(position) != request.cursor:
            raise InvalidOption("cursor is not one that a search answered", key="cursor")
        return position


def _same_model(one: Version, other: Version) -> bool:
    return one.model_fingerprint == other.model_fingerprint


def write_cursor(position: int) -> str:
    """Where the next page of a search begins."""
    return base64.urlsafe_b64encode(f"{CURSOR}{position}".encode()).decode()
