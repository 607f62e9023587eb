"""Texts per CPU second: a whole ingestion against ONNX Runtime alone at its best settings, side by side.

    python -m bench.texts [--texts 3000] [--rounds 3] [--precision fp32|int8]
    python -m bench.texts --providers cuda          an accelerator: texts per second, and how many codes are equal

ONNX Runtime alone: tokenizers and one session on one thread, all texts sorted by their number of tokens, in batches
of the size that is fastest of those in SWEEP; nothing is checked, encoded or stored. The ingestion reads NDJSON, checks
it, embeds, encodes, commits to SQLite and makes points searchable. Both are measured in turns, in one process, by its
CPU time, so that other processes count little.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
from bench.ingest import upload
from tokenizers import Tokenizer

from bebr.bootstrap import build_engine, build_jobs
from bebr.config import Settings
from bebr.demo.corpus import collect
from bebr.encoding import Bundle, BundleRegistry, Precision, TextKind
from bebr.encoding.encoder import Encoder
from bebr.encoding.importing.options import ImportOptions
from bebr.encoding.importing.pull import PullOptions, pull
from bebr.encoding.onnx.providers import CPU_ONLY, choose_device
from bebr.engine import CollectionSettings, Engine
from bebr.jobs import IngestJob, JobQueue

SWEEP = (128, 256, 512, 1024, 2048, 4096)
"""Padded tokens of a batch."""


class Alone:
    """ONNX Runtime and the tokenizer of a bundle, and nothing else."""

    def __init__(self, bundle: Bundle) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(bundle.path / bundle.embedding.graph), options)
        self._tokenizer = Tokenizer.from_file(str(bundle.path / bundle.embedding.tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(bundle.embedding.settings.max_length)

    def run(self, texts: Sequence[str], batch_tokens: int) -> None:
        rows = sorted((one.ids for one in self._tokenizer.encode_batch_fast(list(texts))), key=len)
        start = 0
        while start < len(rows):
            end = start + 1
            while end < len(rows) and (end + 1 - start) * len(rows[end]) <= batch_tokens:
                end += 1
            batch, longest = rows[start:end], len(rows[end - 1])
            ids = np.array([row + [0] * (longest - len(row)) for row in batch])
            mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
            self._session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
            start = end


def cpu_rate(work: Callable[[], object], texts: int) -> float:
    started = time.process_time()
    work()
    return texts / (time.process_time() - started)


async def ingest_rate(engine: Engine, jobs: JobQueue, bundle: str, name: str, texts: Sequence[str]) -> float:
    body = b"".join(json.dumps({"id": f"t{i}", "text": text}).encode() + b"\n" for i, text in enumerate(texts))
    await engine.create_collection(name, CollectionSettings(bundle=bundle))
    started = time.process_time()
    job = await jobs.ingest.submit(name, upload(body))
    while not (state := jobs.get(job)).state.ended:
        await asyncio.sleep(0.02)
    assert isinstance(state, IngestJob) and (state.state, state.applied) == ("succeeded", len(texts)), state
    return len(texts) / (time.process_time() - started)


async def on_cpu(folder: Path, bundle: Bundle, texts: Sequence[str], rounds: int) -> None:
    alone = Alone(bundle)
    some = texts[:: max(1, len(texts) // 200)]
    rates = {size: cpu_rate(lambda size=size: alone.run(some, size), len(some)) for size in SWEEP}  # type: ignore[misc]
    best = max(rates, key=lambda size: rates[size])
    print(
        "ONNX Runtime alone, by tokens of a batch: " + ", ".join(f"{size} {rate:.0f}/s" for size, rate in rates.items())
    )
    settings = Settings(data_dir=folder)
    engine = build_engine(settings)
    jobs = build_jobs(engine, settings)
    await engine.start()
    await engine.wait_until_ready()
    await jobs.start()
    shares = []
    for number in range(rounds):
        bare = cpu_rate(lambda: alone.run(texts, best), len(texts))
        whole = await ingest_rate(engine, jobs, bundle.id, f"round{number}", texts)
        shares.append(100 * whole / bare)
        print(
            f"round {number + 1}: ONNX Runtime alone {bare:.0f}, ingestion {whole:.0f} texts per CPU second: "
            f"{shares[-1]:.0f} %",
            flush=True,
        )
    await jobs.stop()
    await engine.stop()
    print(f"median: {statistics.median(shares):.0f} % of ONNX Runtime alone")


def on_accelerator(bundle: Bundle, texts: Sequence[str], rounds: int, providers: Sequence[str]) -> None:
    device = choose_device(providers)
    print(f"providers: {', '.join(name for name, _ in device.providers)}; {device.batch_tokens} tokens of a batch")
    records = {}
    for label, where in (("cpu", CPU_ONLY), (providers[0], device)):
        encoder = Encoder(bundle, 1, where)
        encoder.warm_up()
        rates = []
        for _ in range(rounds):
            started = time.perf_counter()
            embeddings = encoder.embed(texts, TextKind.PASSAGE)
            rates.append(len(texts) / (time.perf_counter() - started))
        records[label] = encoder.encode(encoder.check_embeddings(embeddings))
        print(f"{label}: {statistics.median(rates):.0f} texts per second")
    first, second = records.values()
    code = bundle.spec.code_size_bytes
    bits = np.unpackbits(first[:, :code] ^ second[:, :code]).mean()
    print(
        f"codes: {100 * (first[:, :code] == second[:, :code]).all(axis=1).mean():.2f} % are equal, "
        f"{100 * bits:.4f} % of all bits differ"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", type=Precision, choices=[Precision.FP32, Precision.INT8], default=Precision.FP32)
    parser.add_argument("--providers", help="such as cuda, or tensorrt,cuda")
    arguments = parser.parse_args()
    texts = [docstring.text for docstring in collect(arguments.texts)]
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundles = Settings(data_dir=folder).bundles_dir
        bundles.mkdir(parents=True)
        made = pull("minilm", bundles, PullOptions(model=ImportOptions(arguments.precision)))
        bundle = BundleRegistry([bundles]).get(made.id)
        if arguments.providers:
            on_accelerator(bundle, texts, arguments.rounds, arguments.providers.split(","))
        else:
            asyncio.run(on_cpu(folder, bundle, texts, arguments.rounds))


if __name__ == "__main__":
    main()
