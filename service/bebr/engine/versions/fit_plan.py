"""Plans of fits: how many bytes per code, after how many embeddings, of which a sample is drawn."""

from bebr.config import Limits
from bebr.encoding.quantization.residual import check_rescore_size
from bebr.encoding.quantization.training import check_size, least_rows
from bebr.engine.collections.schema import FitPlan
from bebr.errors import InvalidOption

SLOW_GROWTH, SLOW_RESTS = 1.01, 12
"""A collection has stopped growing when it has not grown in one rest, or by less than this factor in so many."""
MIN_FIT_DIMS, MAX_FIT_DIMS = 8, 4096
"""Own vectors of as many dims are fitted to unless somebody says otherwise; more never are."""
DEFAULT_SAMPLE = 20_000
"""With more, recall hardly grows; with this many, a fit still takes seconds."""


def make_plan(
    size_bytes: int,
    sample: int | None,
    dims: int,
    limits: Limits,
    *,
    rescore_bytes: int = 0,
    cpu_seconds: float | None = None,
    at: str = "",
) -> FitPlan:
    """sample None: the default, or what the dims need where that is more. at: prefix of the fields, for errors.

    Raises InvalidOption.
    """
    if dims > MAX_FIT_DIMS:
        raise InvalidOption(
            f"a fit takes embeddings of at most {MAX_FIT_DIMS} dims, got {dims}; use 'fit': false, or vectors cut to "
            "fewer dims",
            key=f"{at}dims",
        )
    try:
        check_size(size_bytes, dims)
    except InvalidOption as error:
        raise InvalidOption(error.detail, key=f"{at}bytes") from None
    if rescore_bytes:
        try:
            check_rescore_size(rescore_bytes, dims)
        except InvalidOption as error:
            raise InvalidOption(error.detail, key=f"{at}rescore_bytes") from None
    least, most = least_rows(dims), limits.max_fit_sample
    if sample is None:
        sample = max(least, min(DEFAULT_SAMPLE, most))
    if not least <= sample <= max(least, most):
        raise InvalidOption(
            f"a fit to embeddings of {dims} dims takes a sample of {least} to {most}, got {sample}", key=f"{at}sample"
        )
    return FitPlan(
        size_bytes,
        sample,
        rescore_bytes=rescore_bytes or None,
        cpu_seconds=cpu_seconds or limits.fit_cpu_seconds or None,
    )


def most_collected(plan: FitPlan, record_size_bytes: int, limits: Limits) -> int:
    """With this many points the sample is drawn, whether or not the collection still grows.

    What comes first is seldom like the rest: files come sorted. record_size_bytes: of one embedding.
    """
    room = limits.max_fit_buffer_bytes // record_size_bytes
    return max(plan.sample, min(plan.sample * limits.fit_collect_times, room))
