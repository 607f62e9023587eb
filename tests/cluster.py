"""A real cluster of masters with a replica each, for the tests: killed, frozen and cut off at will."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.servers import Server, ServerKind
from tests.waiting import wait_until

SLOTS = 16384
OPTIONS = (
    *("--cluster-node-timeout", "1500"),
    *("--cluster-replica-validity-factor", "0"),  # also one that was cut off takes over
    *("--cluster-require-full-coverage", "no"),
    *("--repl-diskless-sync-delay", "0"),
)


class Cluster:
    """Masters, and the replica of each at the same place."""

    def __init__(self, kind: ServerKind, folder: Path, masters: int) -> None:
        self.masters = [_node(kind, folder / f"master{n}", masters, n) for n in range(masters)]
        self.replicas = [_node(kind, folder / f"replica{n}", masters, None) for n in range(masters)]

    @property
    def url(self) -> str:
        return self.masters[0].url

    def start(self) -> None:
        """Start all nodes, and return when each master has its replica."""
        nodes = self.masters + self.replicas
        for node in nodes:
            node.start()
        for node in nodes[1:]:
            self.masters[0].command("CLUSTER", "MEET", "127.0.0.1", str(node.port))
        wait_until(lambda: all(_count(node) == len(nodes) for node in nodes), "the nodes know each other")
        for master, replica in zip(self.masters, self.replicas, strict=True):
            replica.command("CLUSTER", "REPLICATE", _text(master.command("CLUSTER", "MYID")))
        wait_until(lambda: all(map(_is_ok, nodes)), "the cluster forms")
        wait_until(lambda: all(map(_is_in_step, self.replicas)), "replicas are in step")

    def stop(self) -> None:
        for node in self.masters + self.replicas:
            if node.runs:
                node.thaw()
                node.kill()

    def of_key(self, key: str) -> int:
        """The place of the master that has a key."""
        slot = int(self.masters[0].command("CLUSTER", "KEYSLOT", key)[1:])
        return next(n for n in range(len(self.masters)) if slot in _slots(len(self.masters), n))

    def cut_off(self, place: int) -> None:
        """From now on the replica hears nothing of its master any more."""
        self.replicas[place].freeze()
        self.masters[place].command("CLIENT", "KILL", "TYPE", "replica")

    def fail_over(self, place: int) -> None:
        """Kill a master, and return when its replica, as it is, has taken over."""
        self.masters[place].kill()
        self.replicas[place].thaw()
        replication = partial(self.replicas[place].command, "INFO", "replication")
        wait_until(lambda: b"role:master" in replication(), "the replica takes over")
        running = [node for node in self.masters + self.replicas if node.runs]
        wait_until(lambda: all(map(_is_ok, running)), "the cluster goes on")

    def heal(self, place: int) -> None:
        """Start the master that died, and return when it is the replica of the one that took over."""
        self.masters[place], self.replicas[place] = self.replicas[place], self.masters[place]
        self.replicas[place].start()
        self.wait_for_replica(place)

    def learn_roles(self) -> None:
        """Find out which node of each place is the master now: on a busy machine others take over by themselves."""
        for place, (master, replica) in enumerate(zip(self.masters, self.replicas, strict=True)):
            said = [node.command("INFO", "replication") for node in (master, replica)]
            if b"role:slave" in said[0] and b"role:master" in said[1]:
                self.masters[place], self.replicas[place] = replica, master

    def revive(self) -> None:
        """Start and thaw whatever does not answer, and return when each master has its replica."""
        for node in self.masters + self.replicas:
            if node.runs:
                node.thaw()
            else:
                node.start()
        nodes = self.masters + self.replicas
        wait_until(lambda: all(map(_is_ok, nodes)), "the cluster goes on")

        def has_replicas() -> bool:
            self.learn_roles()
            return all(map(_is_in_step, self.replicas))

        wait_until(has_replicas, "replicas are in step")

    def wait_for_replica(self, place: int) -> None:
        wait_until(lambda: _is_in_step(self.replicas[place]), "the replica is in step")


@contextmanager
def running_cluster(kind: ServerKind = ServerKind.VALKEY, masters: int = 3) -> Iterator[Cluster]:
    """A started cluster in a temporary folder, stopped and removed at the end."""
    with TemporaryDirectory(prefix="bebr-cluster-") as folder:
        cluster = Cluster(kind, Path(folder), masters)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def _node(kind: ServerKind, folder: Path, masters: int, place: int | None) -> Server:
    folder.mkdir()
    slots = range(0) if place is None else _slots(masters, place)
    return Server(kind, folder, cluster=True, appendfsync="everysec", options=OPTIONS, slots=slots)


def _slots(masters: int, place: int) -> range:
    return range(SLOTS * place // masters, SLOTS * (place + 1) // masters)


def _count(node: Server) -> int:
    return node.command("CLUSTER", "NODES").count(b" connected")


def _is_ok(node: Server) -> bool:
    return b"cluster_state:ok" in node.command("CLUSTER", "INFO")


def _is_in_step(replica: Server) -> bool:
    return b"master_link_status:up" in replica.command("INFO", "replication")


def _text(answer: bytes) -> str:
    """Of a bulk answer."""
    return answer.split(b"\r\n")[1].decode()
