"""Limits: the settings that the engine and the API are handed, one field each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bebr.config import machine
from bebr.config.values import DURATION, Kind, choice, integer, size

MIB = 2**20
GIB = 2**30


class OnFitDrift(StrEnum):
    """What follows when points are no longer like those that were fitted to: nothing, a proposal, or another fit."""

    IGNORE = "ignore"
    PROPOSE = "propose"
    REFIT = "refit"


def about(kind: Kind, group: str, help: str, secret: bool = False) -> Mapping[str, Any]:
    """What is known of a setting beside its default, as `metadata` of its field."""
    return {"kind": kind, "group": group, "help": help, "secret": secret}


def _limit(kind: Kind, help: str) -> Mapping[str, Any]:
    return about(kind, "Limits", help)


@dataclass(frozen=True)
class Limits:
    """What one request, one queue and the whole process may use at most. What exceeds it is refused at once."""

    max_limit: int = field(
        default=10_000,
        metadata=_limit(integer(1, 100_000), "Maximum number of hits or points per request."),
    )
    max_batch_points: int = field(
        default=10_000,
        metadata=_limit(integer(1, 100_000), "Maximum number of points per write."),
    )
    max_candidates: int = field(
        default=10_000,
        metadata=_limit(integer(1, 100_000), "Maximum number of candidates that one search scores again."),
    )
    max_batch_searches: int = field(
        default=256,
        metadata=_limit(integer(1, 10_000), "Maximum number of searches per batch."),
    )
    max_filter_size: int = field(
        default=20_000,
        metadata=_limit(integer(1), "Maximum number of conditions and values in the filters of one request."),
    )
    max_auto_fields: int = field(
        default=32,
        metadata=_limit(
            integer(0, 64), "Maximum number of fields of a collection that become filterable by themselves."
        ),
    )
    max_text_chars: int = field(
        default=100_000,
        metadata=_limit(integer(1), "Maximum length of a text, in characters."),
    )
    scrub_bytes_per_s: int = field(
        default=4 * MIB,
        metadata=_limit(size(0), "How fast segment files are read in the background to find damage; 0: never."),
    )
    read_wait_seconds: float = field(
        default=10.0,
        metadata=_limit(DURATION, "How long a read waits for operations that it must see, as those of `min_seq`."),
    )
    map_from_bytes: int = field(
        default=32 * MIB,
        metadata=_limit(
            size(0),
            "Codes of segment files of this size or more stay in the file, mapped, and are checked when they are first "
            "used; smaller ones are read at the start.",
        ),
    )
    max_metadata_bytes: int = field(
        default=64 * 1024,
        metadata=_limit(size(2), "Maximum size of the metadata of one point, as JSON."),
    )
    max_body_bytes: int = field(
        default=64 * MIB,
        metadata=_limit(
            size(1024), "Maximum size of the body of a write, uncompressed; bulk ingestion has its own limit."
        ),
    )
    max_query_bytes: int = field(
        default=MIB,
        metadata=_limit(
            size(1024), "Maximum size of the body of any other request than writes, batches of searches and embeddings."
        ),
    )
    max_batch_bytes: int = field(
        default=16 * MIB,
        metadata=_limit(
            size(1024), "Maximum size of the body of a batch of searches, of an evaluation and of texts to embed."
        ),
    )
    max_bytes_in_flight: int = field(
        default=256 * MIB,
        metadata=_limit(
            size(1024), "Maximum size of all large bodies that are held at a time; more are refused as Overloaded."
        ),
    )
    body_timeout_seconds: float = field(
        default=120.0,
        metadata=about(DURATION, "Limits", "A body other than a bulk ingestion must have come within this time."),
    )
    max_uploads: int = field(
        default=16,
        metadata=_limit(
            integer(1), "Maximum number of bulk ingestions whose bodies are coming in; more are refused as Overloaded."
        ),
    )
    max_ingest_bytes: int = field(
        default=16 * GIB,
        metadata=_limit(size(1024), "Maximum size of one bulk ingestion, as sent."),
    )
    max_queue: int = field(
        default=1024,
        metadata=_limit(integer(1), "Maximum number of requests that wait in one queue, however fast it is."),
    )
    request_timeout_seconds: float = field(
        default=2.0,
        metadata=_limit(
            DURATION,
            "How long callers wait who send no x-timeout-ms. Work that could not begin within half of it is refused as "
            "Overloaded.",
        ),
    )
    max_answer_bytes: int = field(
        default=32 * MIB,
        metadata=_limit(
            size(1024), "Maximum size of the metadata and codes in one answer; pages end where it is reached."
        ),
    )
    background_percent: int = field(
        default=100,
        metadata=_limit(
            integer(1, 100),
            "Share of the processor time left by other requests that jobs may use to embed texts, in percent.",
        ),
    )
    max_jobs: int = field(
        default=100,
        metadata=_limit(integer(1), "Maximum number of bulk jobs queued or running; more are refused as Overloaded."),
    )
    max_collections: int = field(
        default=1000,
        metadata=_limit(integer(1), "Maximum number of collections."),
    )
    max_shards: int = field(
        default=64,
        metadata=_limit(integer(1, 1024), "Maximum number of shards per collection."),
    )
    max_versions: int = field(
        default=64,
        metadata=_limit(integer(1), "Maximum number of code versions per collection; every fit adds one."),
    )
    max_fit_sample: int = field(
        default=100_000,
        metadata=_limit(integer(1), "Maximum training sample of a fit; each embedding takes dims bytes."),
    )
    fit_cpu_seconds: int = field(
        default=0,
        metadata=_limit(
            integer(0),
            "CPU seconds that one fit may take, about, where its request does not say; 0: 60, or 120 for 1,536 dims, "
            "or 240 for 3,072.",
        ),
    )
    fit_collect_times: int = field(
        default=5,
        metadata=_limit(
            integer(1, 1000),
            "A fit draws its sample at random once this many times as many points are collected, or once the "
            "collection has stopped growing.",
        ),
    )
    fit_rest_seconds: float = field(
        default=5.0,
        metadata=_limit(
            DURATION,
            "A collection that does not grow in this time has stopped growing, for its fit; or grows by less than one "
            "percent in twelve times as long.",
        ),
    )
    on_fit_drift: OnFitDrift = field(
        default=OnFitDrift.PROPOSE,
        metadata=_limit(
            choice(OnFitDrift),
            "What follows when points are no longer like those that a collection's binarizer was fitted to.",
        ),
    )
    fit_drift_percent: int = field(
        default=10,
        metadata=_limit(
            integer(1, 1000),
            "Points have changed when their codes are further from the embeddings than at the fit, by this share.",
        ),
    )
    max_fit_reservoir_bytes: int = field(
        default=64 * MIB,
        metadata=_limit(
            size(0),
            "Maximum size of the embeddings that the store keeps of a sample of a collection's points after its fit; "
            "0: none.",
        ),
    )
    max_fit_buffer_bytes: int = field(
        default=256 * MIB,
        metadata=_limit(
            size(0), "Maximum size of the embeddings that a collection collects beyond the training sample of its fit."
        ),
    )
    coverage_one_in: int = field(
        default=1_000,
        metadata=_limit(
            integer(0),
            "Of this many searches that take a shortcut, one is answered once more without it in the background, to "
            "measure what it misses; 0: none.",
        ),
    )
    coverage_cpu_percent: int = field(
        default=2,
        metadata=_limit(
            integer(1, 100),
            "Of one core, so much may be taken by such checks, on average; what is more is not checked.",
        ),
    )
    lists_from_points: int = field(
        default=50_000,
        metadata=_limit(
            integer(1),
            "Codes of a version with at least this many points are kept in lists, of which a search reads few.",
        ),
    )
    max_evaluation_points: int = field(
        default=5_000,
        metadata=_limit(integer(100), "Maximum number of points in an evaluation; the new model embeds each."),
    )
    backfill_points_per_s: int = field(
        default=100,
        metadata=_limit(integer(1), "Default rate of a backfill, in points per second."),
    )
    ingest_batch_points: int = field(
        default=512,
        metadata=_limit(integer(1), "Number of points that a bulk job encodes and commits at a time."),
    )
    min_free_disk_bytes: int = field(
        default=512 * MIB,
        metadata=_limit(size(0), "Writes are refused when the disk of the data folder has less free space."),
    )
    max_memory_bytes: int = field(
        default=0,
        metadata=_limit(size(0), "Writes are refused when the process uses more; 0: 80 % of the machine or container."),
    )

    @property
    def proposes_fits(self) -> bool:
        """Whether something follows when points are no longer like those that were fitted to."""
        return self.on_fit_drift is not OnFitDrift.IGNORE

    @property
    def makes_fits(self) -> bool:
        """Whether another fit follows then."""
        return self.on_fit_drift is OnFitDrift.REFIT

    @property
    def memory_bytes(self) -> int:
        """`max_memory_bytes`, or 80 % of what this machine or container has."""
        return self.max_memory_bytes or machine.memory_bytes() * 8 // 10
