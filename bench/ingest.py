"""Measure text ingestion against the bare encoder, in turns, in one run.

    python -m bench.ingest [--texts 3000] [--rounds 3]

The bare encoder embeds and encodes the same texts in one call. The job reads them as NDJSON from disk, checks them,
encodes, commits to SQLite and makes them searchable; its time is from the answer to its upload until it has succeeded.
Both run in this process on the same threads, so what else the machine does counts against both alike.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

from bebr.bootstrap import build_engine, build_jobs
from bebr.config import Settings
from bebr.demo.corpus import collect
from bebr.encoding import BundleRegistry, TextKind
from bebr.encoding.encoder import Encoder
from bebr.encoding.importing.pull import pull
from bebr.engine import CollectionSettings, Engine
from bebr.jobs import IngestJob, JobQueue

BUNDLE = "minilm@1"
UPLOAD_BYTES = 1 << 16


def bare_seconds(encoder: Encoder, texts: list[str]) -> float:
    started = time.perf_counter()
    encoder.encode(encoder.embed(texts, TextKind.PASSAGE))
    return time.perf_counter() - started


async def job_seconds(engine: Engine, jobs: JobQueue, name: str, body: bytes, points: int) -> float:
    await engine.create_collection(name, CollectionSettings(bundle=BUNDLE))
    job = await jobs.ingest.submit(name, upload(body))
    started = time.perf_counter()
    while not (state := jobs.get(job)).state.ended:
        await asyncio.sleep(0.005)
    seconds = time.perf_counter() - started
    assert isinstance(state, IngestJob) and (state.state, state.applied) == ("succeeded", points), state
    return seconds


async def upload(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), UPLOAD_BYTES):
        yield body[start : start + UPLOAD_BYTES]


async def measure(folder: Path, texts: list[str], rounds: int) -> None:
    settings = Settings(data_dir=folder)
    settings.bundles_dir.mkdir(parents=True)
    pull("minilm", settings.bundles_dir)
    encoder = Encoder(BundleRegistry([settings.bundles_dir]).get(BUNDLE), settings.encoder_thread_count)
    encoder.warm_up()
    engine = build_engine(settings)
    jobs = build_jobs(engine, settings)
    await engine.start()
    await engine.wait_until_ready()
    await jobs.start()
    body = b"".join(json.dumps({"id": f"t{i}", "text": text}).encode() + b"\n" for i, text in enumerate(texts))
    bare, job = [], []
    for number in range(rounds):
        bare.append(len(texts) / await asyncio.to_thread(bare_seconds, encoder, texts))
        job.append(len(texts) / await job_seconds(engine, jobs, f"round{number}", body, len(texts)))
        print(f"round {number + 1}: bare encoder {bare[-1]:.0f} texts/s, ingestion {job[-1]:.0f} texts/s", flush=True)
    await jobs.stop()
    await engine.stop()
    shares = [100 * b / a for a, b in zip(bare, job, strict=True)]
    print(f"median: {statistics.median(shares):.0f} % of the bare encoder")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    texts = [docstring.text for docstring in collect(arguments.texts)]
    with TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder), texts, arguments.rounds))


if __name__ == "__main__":
    main()
