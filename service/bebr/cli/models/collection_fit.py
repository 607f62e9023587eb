"""`bebr collection fit`: the service fits a new binarizer to a collection's own points."""

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bebr.cli.options import ApiKey, AsJson, Url

if TYPE_CHECKING:
    from collections.abc import Callable

    from bebr.client import Client

Name = Annotated[str, typer.Argument(help="Collection or alias.", show_default=False)]
Bytes = Annotated[
    int | None, typer.Option("--bytes", min=1, help="Bytes per code.", show_default="those of the collection")
]
RescoreBytes = Annotated[
    int | None,
    typer.Option(min=0, help="Bytes per rescore code, on disk; 0: none.", show_default="those of the collection"),
]
Sample = Annotated[int | None, typer.Option(min=1, help="Points to collect first.", show_default="as at the last fit")]
CpuSeconds = Annotated[
    float | None,
    typer.Option(min=0.1, help="CPU seconds that the fit may take, about.", show_default="60; 120 for 1,536 dims"),
]
Now = Annotated[bool, typer.Option("--now", help="Fit to the points that are collected already.")]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="What to fit to: 'codes', the rescore codes of all points, which then get new codes; or 'sample', the "
        "embeddings that are kept of some points.",
        show_default="the next points that are written",
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the fit is done.")]


def fit(
    name: Name,
    bytes: Bytes = None,
    rescore_bytes: RescoreBytes = None,
    sample: Sample = None,
    cpu_seconds: CpuSeconds = None,
    now: Now = False,
    source: From = None,
    wait: Wait = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Fit a new binarizer to a collection, in the service.

    The service collects the embeddings of the next points that are written, new or rewritten, fits a binarizer to
    them and encodes them with it. Other points keep their codes; a search covers both. A fit that fails makes exit
    code 1.
    """
    from bebr.cli.options import client
    from bebr.cli.output import print_json

    with client(url, api_key) as service:
        fit = service.fit_collection(
            name,
            bytes=bytes,
            rescore_bytes=rescore_bytes,
            sample=sample,
            cpu_seconds=cpu_seconds,
            now=now,
            source=source,
        )
        if wait:
            fit = _follow(service, name)
    if as_json:
        print_json({"collection": name, "fit": fit})
    else:
        _print(name, fit)
    if fit["state"] in ("failed", "cancelled"):
        sys.exit(1)


def _follow(service: "Client", name: str) -> dict[str, Any]:
    """Wait for the end of the fit. The bar counts points collected, then layouts measured, then points converted; where
    there is no terminal, lines do."""
    from bebr.cli.output import err, progress

    if not err().is_terminal:
        return service.wait_fit(name, progress=_told())
    with progress() as bar:
        task, most = bar.add_task("collecting", total=None), 0

        def show(fit: dict[str, Any]) -> None:
            nonlocal most
            most = max(most, fit["collected"])
            match fit["state"]:
                case "collecting":
                    bar.update(task, description="collecting", completed=fit["collected"], total=fit["sample"])
                case "converting":
                    bar.update(task, description="converting", completed=most - fit["collected"], total=most)
                case "fitting":
                    bar.update(task, description=f"fitting {fit['detail'] or ''}", completed=0, total=None)
                case state:
                    bar.update(task, description=state, completed=most, total=most)

        return service.wait_fit(name, progress=show)


def _told() -> "Callable[[dict[str, Any]], None]":
    """Prints a line whenever the fit has gone on; points that are collected or converted every few seconds."""
    from bebr.cli.output import LINE_SECONDS, err

    last, told_at = "", 0.0

    def show(fit: dict[str, Any]) -> None:
        nonlocal last, told_at
        said, now = f"{fit['state']} {fit['detail'] or ''}".strip(), time.monotonic()
        if fit["state"] in ("collecting", "converting"):
            said = f"{fit['state']}: {fit['collected']:,} points"
            if now - told_at < LINE_SECONDS and last.split(":")[0] == fit["state"]:
                return
        if said != last:
            err().print(said, markup=False)
            last, told_at = said, now

    return show


def _print(name: str, fit: dict[str, Any]) -> None:
    from bebr.cli.output import out

    match fit["state"]:
        case "done":
            which = "now has its own" if str(fit["version"]).startswith("own-") else "keeps the better"
            said = (
                f"'{name}' {which} binarizer {fit['version']}: {fit['code']}, {fit['bytes']} bytes per point, "
                f"recall@10 {fit['recall_at_10']:.3f} of the float neighbors of {fit['queries']} held-out points among "
                f"{fit['searched'] or 0:,}"
            )
            if fit.get("fitted_to") is not None and fit["fitted_to"] < fit["sample"]:
                said += f"; fitted to {fit['fitted_to']:,} embeddings, which is what its CPU seconds paid for"
            if fit.get("rescored_recall_at_10") is not None:
                said += (
                    f"; {fit['rescored_recall_at_10']:.3f} after {fit['candidates']} candidates are rescored by "
                    f"{fit['rescore_bytes']} bytes per point on disk"
                )
        case "failed":
            said = f"the fit of '{name}' failed: {fit['detail']}; its points are unchanged and still searchable"
        case "cancelled":
            said = f"the fit of '{name}' was cancelled; its points are unchanged and still searchable"
        case "collecting":
            said = f"'{name}' is collecting a training sample: {fit['collected']:,} of {fit['sample']:,} points"
        case state:
            said = f"the fit of '{name}' is {state}"
    out().print(said, markup=False)
