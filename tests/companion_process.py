"""A companion in a process of its own, that can be killed and started again.

The processes are forked from one that has imported everything already: a start takes a fraction
of a second, and a test can afford many.
"""

import importlib
import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from lavise_service.companion.lifecycle import run
from lavise_service.companion.settings import Settings
from lavise_service.companion.store import Store, open_store

psutil: Any = importlib.import_module("psutil")  # TorchServe brings it; it has no types
_forks: Final = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([__name__])


class CompanionProcess:
    """A companion on one store and one pair of ports, however often it starts.

    Args:
        torchserve: Where TorchServe's gRPC is.
        folder: Where its store and its log go.
        settings: Others than the defaults.
    """

    def __init__(self, torchserve: str, folder: Path, **settings: object) -> None:
        self.grpc, self.http = (f"127.0.0.1:{port}" for port in _free_ports(2))
        self.url = f"http://{self.http}"
        self.folder = folder
        given = {"torchserve": torchserve, "grpc_listen": self.grpc, "http_listen": self.http}
        given["store"] = str(folder / "store")
        self._environment = {
            f"LAVISE_{name.upper()}": str(x) for name, x in (given | settings).items()
        }
        self._process: Any = None

    def start(self) -> None:
        """Returns when both doors are open."""
        ours, theirs = _forks.Pipe(duplex=False)
        self._process = _forks.Process(
            target=_serve, args=(self._environment, self.folder / "log", theirs), daemon=True
        )
        self._process.start()
        theirs.close()
        assert ours.poll(30), self.log
        ours.recv()

    def kill(self) -> None:
        """Ends it as a power failure does; returns when it is gone."""
        self._process.kill()
        self._process.join()

    def terminate(self) -> None:
        """Asks it to end."""
        os.kill(self._process.pid, signal.SIGTERM)

    def end(self) -> int:
        """Asks it to end; returns its exit status."""
        self.terminate()
        return self.ended()

    def ended(self) -> int:
        """Waits until it has ended; returns its exit status."""
        self._process.join(timeout=40)
        assert self._process.exitcode is not None, self.log
        status: int = self._process.exitcode
        return status

    def memory(self) -> int:
        """Bytes that it holds."""
        size: int = psutil.Process(self._process.pid).memory_info().rss
        return size

    def store(self) -> Store:
        """What it keeps, as another process sees it."""
        return open_store(Settings(store=self._environment["LAVISE_STORE"]))

    @property
    def log(self) -> str:
        """All that it said, over all its lives."""
        return (self.folder / "log").read_text(encoding="utf-8")


@contextmanager
def companion_process(
    torchserve: str, folder: Path, **settings: object
) -> Iterator[CompanionProcess]:
    """Runs one until the block ends."""
    companion = CompanionProcess(torchserve, folder, **settings)
    companion.start()
    try:
        yield companion
    finally:
        companion.kill()


def _serve(environment: dict[str, str], log: Path, opened: Connection) -> None:
    with log.open("ab") as stream:
        os.dup2(stream.fileno(), 2)
    os.environ.update(environment)
    run(Settings(), when_open=lambda _: opened.send(None))


def _free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
