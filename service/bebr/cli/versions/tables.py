"""What `bebr upgrade` prints: the matrix of an evaluation, the versions of a collection, a backfill that goes on."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from bebr.cli.output import out, progress, table

if TYPE_CHECKING:
    from bebr.client import Client, Job

MEASURES = {"recall_at_10": "recall@10", "ndcg_at_10": "nDCG@10"}
USED = "bold green"
UNJUDGED = (
    "Nothing is judged: what counts are the 10 nearest by the new model's own floats, which favours the new model. "
    "Judged queries (--queries) say what people find."
)


def print_matrix(evaluation: Mapping[str, Any]) -> None:
    """The matrix of an upgrade, and what it says in words."""
    what = "judged queries" if evaluation["judged"] else "queries"
    out().print(
        f"[bold]{evaluation['active']} -> {evaluation['version']}[/]: {evaluation['queries']:,} {what}, "
        f"{evaluation['points']:,} points"
    )
    out().print(matrix_table(evaluation))
    out().print(verdict(evaluation), markup=False)
    if not evaluation["judged"]:
        out().print(f"[dim]{UNJUDGED}[/]")


def matrix_table(evaluation: Mapping[str, Any]) -> Table:
    """A row for each cell that could be measured; the adapter that is used is marked."""
    measures = list(MEASURES) if evaluation["measure"] == "recall_at_10" else list(reversed(MEASURES))
    names = [MEASURES[measure] for measure in measures]
    rows = table("", "queries", "codes", "adapter", *names, "gain", "95 % interval", right=(*names, "gain"))
    before = evaluation["old_to_old"]
    for queries, codes, kind, cell, interval in _cells(evaluation):
        gain = "" if before is None or cell is before else f"{cell[measures[0]] - before[measures[0]]:+.3f}"
        used = kind == evaluation["adapter"]
        values = [f"{cell[measure]:.3f}" for measure in measures]
        rows.add_row("*" if used else "", queries, codes, kind, *values, gain, interval, style=USED if used else None)
    return rows


def _cells(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Mapping[str, Any], str]]:
    """Queries, codes, kind of adapter, what was measured, and the interval of the gain where there is one."""
    if evaluation["old_to_old"] is not None:
        yield "old", "old", "", evaluation["old_to_old"], ""
    for kind, cell in evaluation["adapters"].items():
        yield "new", "old", kind, cell, "" if cell["gain"] is None else _interval(cell["gain"])
    for share, cell in evaluation["mixed"].items():
        yield "new", f"{share} % new", "", cell, ""
    if evaluation["new_to_new"] is not None:
        yield "new", "new", "", evaluation["new_to_new"], ""


def verdict(evaluation: Mapping[str, Any]) -> str:
    """What promotion and a backfill would give, in a sentence or two."""
    gain, measure = evaluation["gain"], MEASURES[evaluation["measure"]]
    if gain is None:
        return "There is no old->old to compare with: the old model cannot embed these queries."
    change = f"{gain['mean']:+.3f} [{_interval(gain)}]"
    said = f"Promotion changes {measure} by {change} at once, through the {evaluation['adapter']} adapter"
    if (share := evaluation["update_gain"]) is not None and share > 0:
        said += f", which is {share:.0%} of what a backfill changes"
    if (worse := evaluation["negative_flips"]) is not None:
        said += f"; {worse:.0%} of the queries get worse"
    return f"{said}."


def print_versions(found: Mapping[str, Any]) -> None:
    """The versions of a collection, what was measured, and what became active when."""
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
    kept = f"texts are kept in '{text_field}'" if text_field else "no texts are kept: backfill with vectors"
    out().print(f"[dim]{kept}[/]")
    for event in found["history"]:
        forced = ", forced" if event.get("forced") else ""
        out().print(f"{_when(event['at'])}  {event['event']}  {event['from']} -> {event['to']}{forced}", markup=False)


def _state(found: Mapping[str, Any], version: Mapping[str, Any]) -> str:
    if version["active"]:
        return "active"
    if version["retired"]:
        return "retired"
    return "before" if version["id"] == found["previous"] else "attached"


def _gain(found: Mapping[str, Any], version_id: str) -> str:
    """What was measured last of promoting a version, with the gate in sight."""
    evaluation = found["evaluations"].get(f"{found['active']} -> {version_id}")
    if evaluation is None:
        return ""
    gain = evaluation["gain"]
    return "unknown" if gain is None else f"{gain['mean']:+.3f} [{_interval(gain)}] {MEASURES[evaluation['measure']]}"


def print_job(job: "Job") -> None:
    """Where a backfill stands, in a line."""
    total = job.total or 0
    rate = f" at {job.rate_per_s:,.0f}/s" if job.rate_per_s else ""
    said = f"backfill {job.id} {job.state}: {job.applied:,} of {total:,} points{rate}"
    if job.rejected:
        said += f", {job.rejected:,} without text keep their codes"
    out().print(f"{said}; {job.detail}" if job.detail else said, markup=False)


def follow(service: "Client", job_id: str, collection: str) -> "Job":
    """A bar until the backfill has ended; it tells when it is paused, and what it waits for."""
    with progress() as bar:
        task = bar.add_task("backfill", total=None)

        def show(job: "Job") -> None:
            said = f"paused; bebr upgrade resume {collection}" if job.state == "paused" else job.detail or job.state
            bar.update(task, completed=job.applied + job.rejected, total=job.total, description=escape(said))

        return service.wait_job(job_id, progress=show)


def job_json(job: "Job") -> dict[str, Any]:
    names = ("state", "applied", "rejected", "total", "remaining", "rate_per_s", "eta_s", "detail")
    return {"job": job.id} | {name: getattr(job, name) for name in names}


def _interval(gain: Mapping[str, float]) -> str:
    return f"{gain['low']:+.3f}, {gain['high']:+.3f}"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
