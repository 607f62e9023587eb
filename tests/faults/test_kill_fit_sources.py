"""kill -9 in every step of fits to what there is already: to the finer codes of all points, and to the sample."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tests.encoding.quantization.embeddings import text_like
from tests.waiting import PATIENCE_SECONDS, wait_until

from bebr.encoding import BundleRegistry
from bebr.encoding.quantization.training import fit_own
from faults.service import Service

DIMS = 32
ROWS = text_like(1_500, dims=DIMS)


def write(service: Service, name: str, numbers: range, rows: np.ndarray = ROWS) -> None:
    points = [{"id": f"p{n}", "vector": rows[n].tolist(), "metadata": {"n": n}} for n in numbers]
    answer = httpx.post(
        f"{service.url}/v1/collections/{name}/points", json={"points": points}, timeout=PATIENCE_SECONDS
    )
    assert answer.status_code == 200 and answer.json()["applied"] == len(points), answer.text


def described(service: Service, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{service.url}/v1/collections/{name}", timeout=PATIENCE_SECONDS).json()
    return answer


def until(service: Service, name: str, *states: str) -> dict[str, Any]:
    def there() -> Any:
        fit = described(service, name)["fit"]
        assert fit["state"] != "failed", fit
        return fit if fit["state"] in states else None

    found: dict[str, Any] = wait_until(there, f"a fit that is {states}")
    return found


def request(service: Service, name: str, **body: Any) -> None:
    answer = httpx.post(f"{service.url}/v1/collections/{name}/fit", json=body, timeout=PATIENCE_SECONDS)
    assert answer.status_code == 202, answer.text


def kill(service: Service) -> None:
    service.kill()
    service.start()


def check(service: Service, name: str, count: int) -> None:
    """Every point is there once, and found by its own vector."""
    body: dict[str, Any] = {"vector": ROWS[0].tolist(), "limit": 10_000, "with_metadata": False}
    answer = httpx.post(f"{service.url}/v1/collections/{name}/search", json=body, timeout=PATIENCE_SECONDS).json()
    assert sorted(hit["id"] for hit in answer["hits"]) == sorted(f"p{n}" for n in range(count))
    assert sum(answer["searched"].values()) == count
    for n in range(0, count, count // 10):
        body = {"vector": ROWS[n].tolist(), "limit": 50, "with_metadata": False}
        hits = httpx.post(f"{service.url}/v1/collections/{name}/search", json=body, timeout=PATIENCE_SECONDS).json()[
            "hits"
        ]
        assert f"p{n}" in [hit["id"] for hit in hits]


def test_fits_to_finer_codes_and_to_the_sample_come_to_their_end(tmp_path: Path) -> None:
    files, metrics = fit_own(text_like(400, seed=4, dims=DIMS), 8, 24)
    BundleRegistry([tmp_path / "data" / "bundles"]).put_binarizer("fine@1", DIMS, files, metrics)
    with Service(tmp_path / "data", BEBR_FIT_REST_SECONDS="200ms", BEBR_HEAD_ROWS="512") as service:
        url = f"{service.url}/v1/collections"
        assert httpx.put(f"{url}/fine", json={"bundle": "fine@1"}).status_code == 200
        own = {"bytes": 8, "sample": 130, "dims": DIMS}
        assert httpx.put(f"{url}/own", json={"fit": own}).status_code == 200
        write(service, "fine", range(1_500))
        write(service, "own", range(1_000))
        first = until(service, "own", "done")

        request(service, "fine", bytes=4, **{"from": "codes"})
        request(service, "own", **{"from": "sample"})  # the sample was saved by the fit
        kill(service)
        assert described(service, "fine")["fit"]["state"] != "collecting"
        check(service, "fine", 1_500)
        until(service, "fine", "converting", "done")
        kill(service)
        check(service, "fine", 1_500)
        fit = until(service, "fine", "done")
        assert described(service, "fine")["points_per_version"] == {fit["version"]: 1_500} and fit["bytes"] == 4
        check(service, "fine", 1_500)

        second = until(service, "own", "done")
        assert described(service, "own")["active_version"] == second["version"] and second["points"] == 1_000
        write(service, "own", range(1_000, 1_100))
        check(service, "own", 1_100)
        assert first["version"] in described(service, "own")["compatible_versions"]
        assert service.stop() == 0
