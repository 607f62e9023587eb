"""kill -9 at random moments: no acknowledged write is missing afterwards, and none is there by half.

The service, SQLite and Redis are real processes; what must be there is kept in plain dicts by the clients.
"""

import random
from pathlib import Path

import httpx
import pytest
from tests.waiting import PATIENCE_SECONDS, wait_until

from faults.service import Service, State, check, create_collection, join, run_writers
from servers import ServerKind, running_server

ROUNDS = 3


def kill_again_and_again(service: Service, seed: int) -> int:
    """Write, kill and check, round after round -> how many points there are in the end."""
    chance = random.Random(seed)
    possible: dict[int, dict[str, set[State]]] = {}
    with service:
        create_collection(service)
        for _ in range(ROUNDS):
            writers = run_writers(service, chance.uniform(0.3, 1.2), possible)
            service.kill()
            join(writers)
            assert sum(writer.acknowledged for writer in writers) > 0
            service.start()
            check(service, possible)
        assert service.stop() == 0
        service.start()
        return check(service, possible)


def test_sqlite_keeps_every_acknowledged_write(tmp_path: Path) -> None:
    assert kill_again_and_again(Service(tmp_path / "data"), seed=1) > 100


@pytest.mark.parametrize("kind", list(ServerKind))
def test_redis_keeps_every_acknowledged_write(tmp_path: Path, kind: ServerKind) -> None:
    with running_server(kind) as server:
        assert kill_again_and_again(Service(tmp_path / "data", BEBR_REDIS_URL=server.url), seed=2) > 100


def test_a_lost_data_folder_is_rebuilt_from_redis(tmp_path: Path) -> None:
    """With Redis the folder holds views only: a fresh machine has everything after its first start."""
    with running_server(ServerKind.REDIS) as server:
        possible: dict[int, dict[str, set[State]]] = {}
        with Service(tmp_path / "one", BEBR_REDIS_URL=server.url) as service:
            create_collection(service)
            join(run_writers(service, 0.5, possible))
        with Service(tmp_path / "two", BEBR_REDIS_URL=server.url) as service:
            assert check(service, possible) > 50


@pytest.mark.parametrize("kind", list(ServerKind))
def test_a_redis_that_dies_under_load_means_503_and_then_recovery(tmp_path: Path, kind: ServerKind) -> None:
    with running_server(kind) as server:
        possible: dict[int, dict[str, set[State]]] = {}
        environment = {"BEBR_REDIS_URL": server.url, "BEBR_STORE_TIMEOUT_SECONDS": "10"}
        with Service(tmp_path / "data", **environment) as service:
            create_collection(service)
            writers = run_writers(service, 0.5, possible)
            server.kill()
            wait_until(lambda: sum(writer.unavailable for writer in writers), "a write that is refused")
            answer = httpx.post(
                f"{service.url}/v1/collections/docs/points/get", json={"ids": ["w0-1"]}, timeout=PATIENCE_SECONDS
            )
            assert answer.status_code == 503 and answer.json()["error"] == "StoreUnavailable"
            assert httpx.get(f"{service.url}/livez", timeout=PATIENCE_SECONDS).status_code == 200
            assert httpx.get(f"{service.url}/readyz", timeout=PATIENCE_SECONDS).status_code == 503
            server.start()
            before = sum(writer.acknowledged for writer in writers)
            wait_until(lambda: sum(writer.acknowledged for writer in writers) > before, "writes, without a restart")
            join(writers)
            check(service, possible)
