"""The event loop stands still: probes on a port of their own answer nevertheless, and the watchdog tells how long."""

import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.faults.service import free_port
from tests.server.service import settings
from tests.waiting import PATIENCE_SECONDS, wait_until

from bebr.cli.server.running import Service
from bebr.errors import InvalidOption
from bebr.server.connections import probes as module


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str]]:
    """A service, and the URL of its probe port."""
    port, folder = free_port(), tmp_path_factory.mktemp("probes")
    changes = {"probe_port": port, "slow_loop_seconds": 0.05, "api_keys": ("sesame",), "open_metrics": True}
    with Service(settings(folder, port=0, **changes)) as service:
        yield service, f"http://127.0.0.1:{port}"


def state(service: Service) -> Any:
    return service._app._app.state


@contextmanager
def stopped_loop(service: Service) -> Iterator[None]:
    """Inside, the event loop does nothing."""
    begun, end = threading.Event(), threading.Event()

    def stop() -> None:
        begun.set()
        end.wait(PATIENCE_SECONDS)

    state(service).probes._loop.call_soon_threadsafe(stop)
    assert begun.wait(PATIENCE_SECONDS)
    try:
        yield
    finally:
        end.set()


def test_probes_need_no_loop(probes: tuple[Service, str], monkeypatch: pytest.MonkeyPatch) -> None:
    service, url = probes
    for path, said in (("/livez", "alive"), ("/readyz", "ready")):
        answer = httpx.get(url + path)
        assert (answer.status_code, answer.json()) == (200, {"status": said}), "no key is needed"
        assert httpx.head(url + path).status_code == 200
    assert httpx.get(f"{url}/metrics").status_code == httpx.get(f"{url}/v1/collections").status_code == 404
    assert httpx.post(f"{url}/livez").status_code == 501
    monkeypatch.setattr(module, "READY_SECONDS", 0.05)
    with stopped_loop(service):
        assert httpx.get(f"{url}/livez").json() == {"status": "alive"}, "not for long enough to be dead"
        answer = httpx.get(f"{url}/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "not ready"})
        monkeypatch.setattr(state(service).probes, "_dead_loop_seconds", 0.05)
        wait_until(lambda: httpx.get(f"{url}/livez").status_code == 503, "the loop counts as dead")
        assert httpx.get(f"{url}/livez").json() == {"status": "stopped"}
    monkeypatch.undo()
    assert httpx.get(f"{url}/livez").status_code == 200
    assert httpx.get(f"{url}/readyz").status_code == 200


def test_connections_that_send_nothing_hold_up_no_probe_for_good(
    probes: tuple[Service, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = probes
    monkeypatch.setattr(module._Request, "timeout", 0.1)

    def answers() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{url}/livez").status_code == 200
        return False

    with ExitStack() as held:
        for _ in range(100):
            held.enter_context(socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))))
        wait_until(answers, "an answer")


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidOption, match=f"cannot listen on 127.0.0.1:{port} for probes"):
            Service(settings(tmp_path, port=0, probe_port=port)).start()


def stops(service: Service) -> tuple[float, float, float]:
    """The longest stop since the last scrape; of all stops the sum, and how many took over 100 ms."""
    found = {}
    for line in httpx.get(f"{service.url}/metrics").text.splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("bebr_loop_stopped"):
            found[name] = float(value)
    over = found["bebr_loop_stopped_seconds_count"] - found['bebr_loop_stopped_seconds_bucket{le="0.1"}']
    return found["bebr_loop_stopped_max_seconds"], found["bebr_loop_stopped_seconds_sum"], over


def test_the_watchdog_says_for_how_long_the_loop_was_stopped(
    probes: tuple[Service, str], caplog: pytest.LogCaptureFixture
) -> None:
    service, _ = probes
    _, sum_before, over_before = stops(service)
    with caplog.at_level(logging.WARNING), stopped_loop(service):
        time.sleep(0.15)
    least = 0.15 - 0.021
    """A timer that is due every 20 ms was due within as much of the stop's beginning."""

    def is_told() -> bool:
        _, sum_now, over_now = stops(service)
        return sum_now >= sum_before + least and over_now >= over_before + 1

    wait_until(is_told, "the stop is told of")
    assert re.search(r"the event loop was stopped for \d+\.\d", caplog.text)
    with stopped_loop(service):
        time.sleep(0.15)
    wait_until(lambda: stops(service)[0] >= least, "the longest stop")
    wait_until(lambda: stops(service)[0] < least, "a scrape without it")
    """Each scrape begins anew."""
