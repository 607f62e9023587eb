"""The process that workers are forked from: it has imported what they need, so that all share these pages.

It has no threads and opens nothing, and does nothing else; where it dies, the workers go on and another one is made.
"""

import array
import gc
import importlib
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

PLACE = b"worker=" + b"-" * 8
"""In the command line: where a worker writes its number, for whoever looks at the processes."""
ARGUMENTS_START = 45
"""Field of /proc/self/stat, behind the name of the program: the address of the command line."""


def await_fork(channel: socket.socket) -> tuple[int, int] | None:
    """Fork a worker for each message, which has its number and two descriptors, and answer with its process.

    Returns the descriptors, in the worker; None, in the template, once whoever asks for workers has ended.
    """
    room = 2 * array.array("i").itemsize
    while True:
        number, descriptors, _, _ = socket.recv_fds(channel, 16, room)
        if not number:
            return None
        control, listener = descriptors
        if not _fork_worker(channel):
            channel.close()
            _name(number)
            return control, listener
        os.close(control)
        os.close(listener)


def _fork_worker(channel: socket.socket) -> bool:
    """False in the worker, which is the child of whoever asked for it: the process between them has ended."""
    reads, writes = os.pipe()
    between = os.fork()
    if not between:
        os.close(reads)
        worker = os.fork()
        if worker:
            os.write(writes, b"%d" % worker)
            os._exit(0)
        os.close(writes)
        return False
    os.close(writes)
    os.waitpid(between, 0)  # the answer is not sent before the worker is the other's child
    channel.send(os.read(reads, 16))
    os.close(reads)
    return True


def _name(number: bytes) -> None:
    """Say in the command line of this process which worker it is."""
    with suppress(OSError, ValueError):
        place = Path("/proc/self/cmdline").read_bytes().index(PLACE)
        start = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[ARGUMENTS_START])
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
            memory.seek(start + place)
            memory.write((b"worker=" + number).ljust(len(PLACE), b"\0"))


def main() -> None:
    """Fork workers until the supervisor has ended; in each of them, serve."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    import bebr.bootstrap  # noqa: F401
    from bebr.cli.server.workers import worker

    for module in sys.argv[3:]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # a collection in a worker would write to every object, and what is written is shared no more
    with channel:
        descriptors = await_fork(channel)
    if descriptors is not None:
        worker.main(*descriptors)


if __name__ == "__main__":
    main()
