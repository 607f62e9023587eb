"""Records over HTTP that were made elsewhere: what the service stores of them, and what it refuses."""

import json
import struct
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.encoding.quantization.embeddings import text_like
from tests.server.bundles import TEXTS
from tests.server.service import DOCS, assert_problem, create, serving

from bebr.core.codes import CodeSpec
from bebr.encoding import Bundle, TextKind, write_bundle
from bebr.encoding.encoder import Encoder
from bebr.encoding.quantization.layout import fit_bytes
from bebr.encoding.quantization.recurrent_graph import files_of

BINARY = {"content-type": "application/octet-stream"}
RECORDS = f"{DOCS}/points/records"


def frame(records: np.ndarray, ids: list[Any], metadata: list[Any] | None = None, **header: Any) -> bytes:
    text = json.dumps({"count": len(records), "ids": ids, "metadata": metadata, **header}).encode()
    return struct.pack("<Q", len(text)) + text + records.tobytes()


async def post(client: httpx.AsyncClient, body: bytes, **params: str) -> httpx.Response:
    headers = BINARY | {name.replace("_", "-"): params.pop(name) for name in ("idempotency_key",) if name in params}
    return await client.post(RECORDS, content=body, headers=headers, params=params)


@pytest.fixture(scope="module")
def tiny(bundles: Path) -> Bundle:
    return Bundle.load(bundles / "tiny@1")


async def test_records_are_stored_as_those_of_the_same_texts(client: httpx.AsyncClient, tiny: Bundle) -> None:
    """The oracle is the service itself, which encodes the same texts one by one."""
    for number, text in enumerate(TEXTS):
        one = {"points": [{"id": f"text{number}", "text": text, "metadata": {"n": number}}]}
        assert (await client.post(f"{DOCS}/points", json=one)).json()["applied"] == 1
    encoder = Encoder(tiny)
    records = np.concatenate([encoder.encode(encoder.embed([text], TextKind.PASSAGE)) for text in TEXTS])
    encoder.close()
    ids, metadata = [f"record{n}" for n in range(len(TEXTS))], [{"n": n} for n in range(len(TEXTS))]
    body = frame(records, ids, metadata, code=str(tiny.spec), fingerprint=tiny.fingerprint)
    assert (await post(client, body)).json()["applied"] == len(TEXTS)
    wanted = {"ids": [*ids, *(f"text{n}" for n in range(len(TEXTS)))], "with_code": True}
    points = {p["id"]: p for p in (await client.post(f"{DOCS}/points/get", json=wanted)).json()["points"]}
    for number in range(len(TEXTS)):
        ours, theirs = points[f"record{number}"], points[f"text{number}"]
        assert {**ours, "id": ""} == {**theirs, "id": ""} and ours["code_b64"]


async def test_what_another_bundle_made_is_refused(client: httpx.AsyncClient, tiny: Bundle) -> None:
    records = np.zeros((1, tiny.spec.record_size_bytes), np.uint8)
    ours = {"code": str(tiny.spec), "fingerprint": tiny.fingerprint}
    for fingerprint in ("0" * 64, "", None):
        answer = await post(client, frame(records, ["a"], **{**ours, "fingerprint": fingerprint}))
        problem = assert_problem(answer, 409, "Incompatible", "fingerprint")
        assert tiny.fingerprint[:16] in problem["detail"] and "tiny@1" in problem["detail"]
        assert "no bundle" in problem["detail"] or fingerprint
    other = CodeSpec.parse("8x1")
    records = np.zeros((1, other.record_size_bytes), np.uint8)
    problem = assert_problem(await post(client, frame(records, ["a"], **{**ours, "code": "8x1"})), 409, "Incompatible")
    assert "'8x1'" in problem["detail"] and f"'{tiny.spec}'" in problem["detail"]
    assert (await client.post(f"{DOCS}/points/count", json={})).json() == {"count": 0}


async def test_a_frame_that_is_none_is_refused(client: httpx.AsyncClient, tiny: Bundle) -> None:
    ours = {"code": str(tiny.spec), "fingerprint": tiny.fingerprint}
    records = np.zeros((2, tiny.spec.record_size_bytes), np.uint8)
    wrong: list[tuple[bytes, str, int]] = [
        (frame(records[:, 1:], ["a", "b"], **ours), "DimensionMismatch", 400),
        (frame(records, ["a"], **ours), "InvalidOption", 400),
        (frame(records, ["a", "b"], [{}], **ours), "InvalidOption", 400),
        (frame(records, ["a", "b"], **{**ours, "code": "2x3"}), "InvalidSpec", 400),
        (frame(records, ["a", "b"], **{**ours, "code": 7}), "InvalidOption", 400),
        (frame(records, ["a", "b"], code=str(tiny.spec)), "InvalidOption", 400),
        (frame(records, ["a", "b"], dims=3, **ours), "InvalidOption", 400),
        (b"1234567", "Malformed", 422),
    ]
    for body, error, status in wrong:
        answer = await post(client, body)
        assert_problem(answer, status, error)
    assert_problem(await client.post(RECORDS, json={}), 415, "UnsupportedMedia")
    ok = frame(records, ["a", "b"], **ours)
    assert_problem(await post(client, ok, version="other@1"), 409, "Incompatible", "version")


async def test_bad_records_are_named_and_good_ones_are_stored(tmp_path: Path) -> None:
    """A layout with padding bits and a rescore code: each way in which a record can be wrong, beside sound ones."""
    fitted, report = fit_bytes(text_like(400, dims=20), 5, lambda *_: None, rescore_bytes=9, cpu_seconds=5)
    bundle = write_bundle(tmp_path / "bundles", "own", "1", embedding_dims=20, binarizer=files_of(fitted))
    encoder = Encoder(bundle)
    records = encoder.encode(encoder.check_embeddings(text_like(12, seed=3, dims=20)))
    encoder.close()
    spec = bundle.spec
    assert spec.rescore is not None, report
    gain, finer = spec.code_size_bytes, spec.record_size_bytes - 2
    broken = records.copy()
    nan, zero, minus = (np.array([value], "<f2").view(np.uint8) for value in (np.nan, 0, -1))
    broken[1, gain : gain + 2], broken[2, gain : gain + 2] = nan, zero
    broken[3, finer:], broken[4, finer:] = nan, minus
    broken[5, finer:] = zero  # adds nothing to the score of the scan code: sound
    ids: list[Any] = [*(f"p{n}" for n in range(10)), "p0", 7]
    metadata: list[Any] = [{"n": n} for n in range(12)]
    metadata[6], metadata[7] = {"n": "x"}, [1]
    async with serving(tmp_path, bundles_dir=tmp_path / "bundles") as client:
        await create(client, code=None, bundle="own@1", filterable={"n": "integer"})
        body = frame(broken, ids, metadata, code=str(spec), fingerprint=bundle.fingerprint)
        report = (await post(client, body)).json()
        assert [(item["index"], item["error"]) for item in report["items"]] == [
            *((n, "InvalidCode") for n in (1, 2, 3, 4)),
            (6, "InvalidMetadata"),
            (7, "InvalidMetadata"),
            (10, "DuplicateId"),
            (11, "InvalidId"),
        ]
        assert report["applied"] == 4
        assert (await client.post(f"{DOCS}/points/count", json={})).json() == {"count": 4}


async def test_codes_that_no_bundle_makes_come_in_with_padding_checked(tmp_path: Path) -> None:
    spec = CodeSpec.parse("9x2")
    records = np.zeros((3, spec.record_size_bytes), np.uint8)
    records[:, -2:] = np.array([1], "<f2").view(np.uint8)
    records[1, spec.code_size_bytes - 1] = 0xFF
    async with serving(tmp_path) as client:
        await create(client, code="9x2", filterable={})
        report = (await post(client, frame(records, ["a", "b", "c"], code="9x2", fingerprint=None))).json()
        assert [(i["index"], i["error"]) for i in report["items"]] == [(1, "InvalidCode")] and report["applied"] == 2


async def test_a_retry_with_its_key_changes_nothing(client: httpx.AsyncClient, tiny: Bundle) -> None:
    encoder = Encoder(tiny)
    records = encoder.encode(encoder.embed(TEXTS, TextKind.PASSAGE))
    encoder.close()
    ours = {"code": str(tiny.spec), "fingerprint": tiny.fingerprint}
    ids = [f"p{n}" for n in range(len(TEXTS))]
    body = frame(records, ids, **ours)
    first = (await post(client, body, mode="insert_only", idempotency_key="k")).json()
    assert first["applied"] == len(TEXTS)
    assert (await post(client, body, mode="insert_only", idempotency_key="k")).json() == first
    other = frame(records[::-1].copy(), ids, **ours)
    assert_problem(await post(client, other, mode="insert_only", idempotency_key="k"), 409, "IdempotencyConflict")
    again = (await post(client, body, mode="insert_only")).json()
    assert again["applied"] == 0 and {item["error"] for item in again["items"]} == {"AlreadyExists"}
