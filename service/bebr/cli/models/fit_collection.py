"""`bebr fit --collection`: a new binarizer of a collection's own, fitted by the service."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bebr.client import Client


def fit_collection(
    name: str,
    size_bytes: int | None,
    sample: int | None,
    now: bool,
    wait: bool,
    url: str | None,
    api_key: str | None,
    as_json: bool,
) -> None:
    """Ask for the fit and, with `wait`, follow it to its end; a fit that fails makes exit code 1."""
    from bebr.cli.options import client
    from bebr.cli.output import print_json

    with client(url, api_key) as service:
        fit = service.fit_collection(name, bytes=size_bytes, sample=sample, now=now)
        if wait:
            fit = _follow(service, name)
    if as_json:
        print_json({"collection": name, "fit": fit})
    else:
        _show(name, fit)
    if fit["state"] == "failed":
        sys.exit(1)


def _follow(service: "Client", name: str) -> dict[str, Any]:
    """Show every state as a bar: points collected, then what is measured, then points still to convert."""
    from bebr.cli.output import progress

    with progress() as bar:
        task, buffered = bar.add_task("collecting", total=None), 0

        def show(fit: dict[str, Any]) -> None:
            nonlocal buffered
            buffered = max(buffered, fit["collected"])
            match fit["state"]:
                case "collecting":
                    bar.update(task, description="collecting", completed=fit["collected"], total=fit["sample"])
                case "converting":
                    bar.update(task, description="converting", completed=buffered - fit["collected"], total=buffered)
                case "fitting":
                    bar.update(task, description=f"fitting {fit['detail'] or ''}", completed=0, total=None)
                case state:
                    bar.update(task, description=state, completed=buffered, total=buffered)

        fit: dict[str, Any] = service.wait_fit(name, progress=show)
        return fit


def _show(name: str, fit: dict[str, Any]) -> None:
    from bebr.cli.output import out

    match fit["state"]:
        case "done":
            said = (
                f"'{name}' has its own binarizer {fit['version']}: {fit['code']}, {fit['bytes']} bytes a point, "
                f"recall@10 {fit['recall_at_10']:.3f} of the float neighbours of {fit['queries']} held-out points"
            )
        case "failed":
            said = f"the fit of '{name}' failed: {fit['detail']}; its points are kept and found as before"
        case "collecting":
            said = f"'{name}' collects embeddings for a fit: {fit['collected']:,} of {fit['sample']:,} points"
        case state:
            said = f"the fit of '{name}' is {state}"
    out().print(said, markup=False)
