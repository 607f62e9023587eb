"""What `bebr upgrade` prints: the matrix of an evaluation, the versions of a collection, the progress of a backfill."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from bebr.cli.output import out, progress, table

if TYPE_CHECKING:
    from bebr.client import Client, Job

METRICS = {"recall_at_10": "recall@10", "ndcg_at_10": "nDCG@10"}
USED = "bold green"
UNJUDGED = (
    "These queries have no relevance judgments. Instead, the 10 nearest points by the new model's own floats count as "
    "relevant, which favors the new model. Give queries with relevance judgments (--queries) to measure what users "
    "find."
)


def print_matrix(evaluation: Mapping[str, Any]) -> None:
    """Print the matrix of an upgrade and a summary in words."""
    what = "queries with relevance judgments" if evaluation["judged"] else "queries"
    out().print(
        f"[bold]{evaluation['active']} -> {evaluation['version']}[/]: {evaluation['queries']:,} {what}, "
        f"{evaluation['points']:,} points"
    )
    out().print(matrix_table(evaluation))
    out().print(verdict(evaluation), markup=False)
    if not evaluation["judged"]:
        out().print(f"[dim]{UNJUDGED}[/]")


def matrix_table(evaluation: Mapping[str, Any]) -> Table:
    """A row for each cell that could be measured; the adapter that is used is highlighted."""
    metrics = list(METRICS) if evaluation["measure"] == "recall_at_10" else list(reversed(METRICS))
    names = [METRICS[metric] for metric in metrics]
    rows = table("", "queries", "codes", "adapter", *names, "gain", "95% interval", right=(*names, "gain"))
    before = evaluation["old_to_old"]
    for queries, codes, kind, cell, interval in _cells(evaluation):
        gain = "" if before is None or cell is before else f"{cell[metrics[0]] - before[metrics[0]]:+.3f}"
        used = kind == evaluation["adapter"]
        values = [f"{cell[metric]:.3f}" for metric in metrics]
        rows.add_row("*" if used else "", queries, codes, kind, *values, gain, interval, style=USED if used else None)
    return rows


def _cells(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Mapping[str, Any], str]]:
    """(queries, codes, kind of adapter, metrics, interval of the gain) of each cell."""
    if evaluation["old_to_old"] is not None:
        yield "old", "old", "", evaluation["old_to_old"], ""
    for kind, cell in evaluation["adapters"].items():
        yield "new", "old", kind, cell, "" if cell["gain"] is None else _interval(cell["gain"])
    for share, cell in evaluation["mixed"].items():
        yield "new", f"{share}% new", "", cell, ""
    if evaluation["new_to_new"] is not None:
        yield "new", "new", "", evaluation["new_to_new"], ""


def verdict(evaluation: Mapping[str, Any]) -> str:
    """What promotion and a backfill would change, in a sentence."""
    gain, metric = evaluation["gain"], METRICS[evaluation["measure"]]
    if gain is None:
        return "There is no old->old result to compare with: the old model cannot embed these queries."
    change = f"{gain['mean']:+.3f} [{_interval(gain)}]"
    said = f"Promotion changes {metric} by {change} at once, through the {evaluation['adapter']} adapter"
    if (share := evaluation["update_gain"]) is not None and share > 0:
        said += f", which is {share:.0%} of what a backfill changes"
    if (worse := evaluation["negative_flips"]) is not None:
        said += f"; {worse:.0%} of the queries get worse"
    return f"{said}."


def print_versions(found: Mapping[str, Any]) -> None:
    """Print the versions of a collection with their evaluations, and the history of promotions."""
    rows = table("version", "state", "code", "bytes", "points", "gain", right=("bytes", "points", "gain"))
    for version in found["versions"]:
        rows.add_row(
            version["id"],
            _state(found, version),
            version["code"],
            str(version["code_bytes"]),
            f"{version['points']:,}",
            _gain(found, version["id"]),
            style=USED if version["active"] else "dim" if version["retired"] else None,
        )
    out().print(rows)
    text_field = found["text_field"]
    kept = f"texts are kept in '{text_field}'" if text_field else "no texts are kept; a backfill needs vectors"
    out().print(f"[dim]{kept}[/]")
    for event in found["history"]:
        forced = ", forced" if event.get("forced") else ""
        out().print(f"{_when(event['at'])}  {event['event']}  {event['from']} -> {event['to']}{forced}", markup=False)


def _state(found: Mapping[str, Any], version: Mapping[str, Any]) -> str:
    if version["active"]:
        return "active"
    if version["retired"]:
        return "retired"
    return "previous" if version["id"] == found["previous"] else "attached"


def _gain(found: Mapping[str, Any], version_id: str) -> str:
    """The gain of promoting a version, as it was measured last."""
    evaluation = found["evaluations"].get(f"{found['active']} -> {version_id}")
    if evaluation is None:
        return ""
    gain = evaluation["gain"]
    return "unknown" if gain is None else f"{gain['mean']:+.3f} [{_interval(gain)}] {METRICS[evaluation['measure']]}"


def print_job(job: "Job") -> None:
    """Print the progress of a backfill in one line."""
    total = job.total or 0
    rate = f" at {job.rate_per_s:,.0f}/s" if job.rate_per_s else ""
    said = f"backfill {job.id} {job.state}: {job.applied:,} of {total:,} points{rate}"
    if job.rejected:
        said += f", {job.rejected:,} points without text keep their codes"
    out().print(f"{said}; {job.detail}" if job.detail else said, markup=False)


def follow(service: "Client", job_id: str, collection: str) -> "Job":
    """Show a progress bar until the backfill has ended, with a note when it is paused or waiting."""
    with progress() as bar:
        task = bar.add_task("backfill", total=None)

        def show(job: "Job") -> None:
            said = (
                f"paused; resume it with bebr upgrade resume {collection}"
                if job.state == "paused"
                else job.detail or job.state
            )
            bar.update(task, completed=job.applied + job.rejected, total=job.total, description=escape(said))

        return service.wait_job(job_id, progress=show)


def job_json(job: "Job") -> dict[str, Any]:
    """A backfill as JSON."""
    names = ("state", "applied", "rejected", "total", "remaining", "rate_per_s", "eta_s", "detail")
    return {"job": job.id} | {name: getattr(job, name) for name in names}


def _interval(gain: Mapping[str, float]) -> str:
    return f"{gain['low']:+.3f}, {gain['high']:+.3f}"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
