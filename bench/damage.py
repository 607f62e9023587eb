"""Damages files of a data folder, one at a time, and holds a real service to a model of what it must answer.

    python -m bench.damage [--trials 200] [--seed 1]

Each trial takes a folder as a polite stop or a kill left it, flips bits of one file, cuts it, zeroes a part of it or
removes it, before the service starts or while it runs, and then asks for everything. A fault is a process that dies, an
answer that is wrong, or a loss that nothing reports. One of the collections has rescore codes, and is searched by them.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import httpx
from tests.faults.damaging import KINDS, Model, check, damage_any, files, fill
from tests.faults.service import Service

STATES = ("stopped", "killed", "running")
SAID = (" WARNING ", " ERROR ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    outcomes: Counter[tuple[str, str]] = Counter()
    faults = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = make(folder, rng)
        for number in range(options.trials):
            state, kind = STATES[number % len(STATES)], rng.choice(KINDS)
            done, outcome = trial(folder, model, state, kind, rng)
            outcomes[f"{state}, {kind}", outcome] += 1
            if outcome in ("died", "wrong", "lost silently"):
                faults.append(f"trial {number}, {state}: {done}: {outcome}")
    print_table(outcomes)
    print(*faults, sep="\n")
    sys.exit(1 if faults else 0)


def make(folder: Path, rng: random.Random) -> Model:
    """What a kill leaves, and what a polite stop leaves."""
    service = Service(folder / "stopped", BEBR_HEAD_ROWS="32", BEBR_FIT_REST_SECONDS="0.2")
    with service:
        model = asyncio.run(_with_client(service, lambda client: fill(client, rng)))
        service.kill()
        shutil.copytree(folder / "stopped", folder / "killed")
        service.start()
        service.stop()
    return model


def trial(folder: Path, model: Model, state: str, kind: str, rng: random.Random) -> tuple[str, str]:
    """(what was damaged, what became of it)."""
    here = folder / "here"
    shutil.rmtree(here, ignore_errors=True)
    log = here.with_name("here.log")
    log.unlink(missing_ok=True)
    shutil.copytree(folder / ("stopped" if state == "running" else state), here)
    service = Service(here, BEBR_HEAD_ROWS="32", BEBR_MAP_FROM_BYTES=rng.choice(["0", "32MiB"]))
    done = "" if state == "running" else damage_any(files(here), kind, rng)
    try:
        service.start()
    except AssertionError:
        said = log.read_text(errors="replace")
        return done, "does not start, and says why" if "catalog.db" in said else "died"
    try:
        if state == "running":
            done = damage_any(files(here), kind, rng)
        verdict = asyncio.run(_with_client(service, lambda client: check(client, model)))
        httpx.get(f"{service.url}/livez", timeout=5).raise_for_status()
    except httpx.TransportError:
        return done, "died"
    finally:
        service.kill()
    said = log.read_text(errors="replace")
    if verdict.wrong:
        return f"{done}: {verdict.wrong[:2]}", "wrong"
    if verdict.reported:
        return done, "reported"
    if verdict.lost and not any(level in said for level in SAID):
        return f"{done}: {verdict.lost[:2]}", "lost silently"
    return done, "lost, in the log" if verdict.lost else "all right"


async def _with_client(service, work):  # type: ignore[no-untyped-def]
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        return await work(client)


def print_table(outcomes: Counter[tuple[str, str]]) -> None:
    columns = sorted({outcome for _, outcome in outcomes})
    print("| damage | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for what in sorted({what for what, _ in outcomes}):
        print(f"| {what} | " + " | ".join(str(outcomes[what, column]) for column in columns) + " |")


if __name__ == "__main__":
    main()
