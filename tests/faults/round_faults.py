"""What is killed in a round: processes of a service of several, its machine, and the servers of its store."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from tests.cluster import Cluster
from tests.servers import Server
from tests.waiting import wait_until

from faults.team_service import TeamService


class Scene(Protocol):
    """What there is to kill."""

    chance: random.Random
    services: list[TeamService]
    folders: list[Path]
    """Of the services."""
    workers: int
    """Of each service."""
    store: Server | Cluster | None


Fault = Callable[[Scene, TeamService], set[int] | None]
"""What it kills, and which processes must have been replaced afterwards."""


def follower(scene: Scene, service: TeamService) -> set[int]:
    return _kill(service, scene.chance.randrange(1, scene.workers))


def primary(scene: Scene, service: TeamService) -> set[int]:
    return _kill(service, 0)


def supervisor(scene: Scene, service: TeamService) -> set[int]:
    """Its workers end with it; the next one is started at once."""
    pids = set(service.workers.pids().values())
    if service.runs:
        service.kill()
    service.launch()
    return pids


def everything(scene: Scene, service: TeamService) -> set[int]:
    """The machine; its data folder is whole."""
    pids = service.processes()
    service.kill_all()
    return pids


def reload(scene: Scene, service: TeamService) -> set[int]:
    pids = set(service.workers.pids().values())
    if service.runs:
        os.kill(service.pid, signal.SIGHUP)
    return pids


def folder(scene: Scene, service: TeamService) -> set[int]:
    """The machine with its data folder; another one takes its place."""
    pids = service.processes()
    service.end_all()
    path = scene.folders[scene.services.index(service)]

    def is_gone() -> bool:
        """A worker that had only begun may make a file meanwhile."""
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()

    wait_until(is_gone, "the folder is gone")
    return pids


def server(scene: Scene, service: TeamService) -> None:
    assert isinstance(scene.store, Server)
    scene.store.kill()
    time.sleep(scene.chance.uniform(0, 0.3))
    scene.store.start()


def master(scene: Scene, service: TeamService) -> None:
    """Its replica, which lags behind, takes over."""
    assert isinstance(scene.store, Cluster)
    scene.store.learn_roles()
    place = scene.chance.randrange(len(scene.store.masters))
    scene.store.wait_for_replica(place)
    scene.store.cut_off(place)
    time.sleep(scene.chance.uniform(0, 1))
    scene.store.fail_over(place)
    scene.store.heal(place)


def replica(scene: Scene, service: TeamService) -> None:
    assert isinstance(scene.store, Cluster)
    scene.store.learn_roles()
    place = scene.chance.randrange(len(scene.store.masters))
    scene.store.replicas[place].kill()
    time.sleep(scene.chance.uniform(0, 1))
    scene.store.replicas[place].start()
    scene.store.wait_for_replica(place)


def faults_on(store: Server | Cluster | None) -> list[Fault]:
    of_services: list[Fault] = [follower, primary, supervisor, everything, reload]
    if store is None:
        return of_services
    return [*of_services, folder, *([server] if isinstance(store, Server) else [master, replica])]


def _kill(service: TeamService, number: int) -> set[int]:
    """One worker, where it is there: another fault may just have taken it."""
    pid = service.workers.pids().get(number) if service.runs else None
    if pid is None:
        return set()
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return {pid}
