"""What is put under load: TorchServe with two workers, two companions, one store they share."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from benchmarks.material import bundle
from lavise_service.archive import WorkerConfig, write_archive
from lavise_service.companion.settings import Settings
from lavise_service.companion.store import Store, open_store
from lavise_service.torchserve import TorchServe

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

psutil: Any = importlib.import_module("psutil")  # TorchServe brings it; it has no types
TOKEN: Final = "t" * 32
WORKERS: Final = 2
_READY_S: Final = 60.0
_RUN: Final = """
from lavise_service.companion.lifecycle import run
from lavise_service.companion.settings import Settings
run(Settings())
"""


class Companion:
    """A companion in a process of its own, on ports that stay the same.

    Args:
        torchserve: Where TorchServe's gRPC is.
        store: The folder that replicas share.
        log: Where its log goes.
    """

    def __init__(self, torchserve: str, store: Path, log: Path) -> None:
        self.grpc, self.http = (f"127.0.0.1:{port}" for port in _free_ports(2))
        self._log = log
        self._environment = os.environ | {
            "LAVISE_TORCHSERVE": torchserve,
            "LAVISE_GRPC_LISTEN": self.grpc,
            "LAVISE_HTTP_LISTEN": self.http,
            "LAVISE_STORE": str(store),
            "LAVISE_TOKENS": f"load={TOKEN}",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it says that it is ready: when a prediction went through it."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _RUN], env=self._environment, stdout=log, stderr=log
            )
        ends = time.monotonic() + _READY_S
        while True:
            try:
                answer = httpx.get(f"http://{self.http}/readyz", trust_env=False, timeout=5)
                if answer.status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            if self.process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"a companion is not ready: {self._log.read_text()[-2000:]}")
            time.sleep(0.1)

    def end(self) -> int:
        """Asks it to end; returns its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def log(self) -> str:
        """All that it said, over all its lives."""
        return self._log.read_text(encoding="utf-8")


class Servers:
    """All of them, as a context manager; call it from the main thread.

    Args:
        folder: Everything lies below it.

    Attributes:
        torchserve: With two workers of one thread each.
        companions: Two, before the same TorchServe and store.
        store: The folder they share: a mount of its own, so that it can be made read-only.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self.store = folder / "store"
        models = folder / "models"
        write_archive(bundle().path, models, config=WorkerConfig(workers=WORKERS, threads=1))
        self.torchserve = TorchServe(models)
        self.companions = [
            Companion(self.torchserve.grpc_target, self.store, folder / f"companion-{number}.log")
            for number in (1, 2)
        ]

    def __enter__(self) -> Self:
        self.store.mkdir()
        _mount("--bind", str(self.store), str(self.store))
        self._stack.callback(_mount_ended, self.store)
        self._stack.callback(self._stop)
        try:
            self.torchserve.start()
            for companion in self.companions:
                companion.start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def workers(self) -> list[Any]:
        """TorchServe's workers, the oldest first."""
        if self.torchserve.pid is None:
            return []
        try:
            children = psutil.Process(self.torchserve.pid).children(recursive=True)
            workers = [one for one in children if "model_service_worker" in " ".join(one.cmdline())]
            return sorted(workers, key=lambda one: one.create_time())
        except psutil.NoSuchProcess:
            return []

    def set_read_only(self, *, yes: bool) -> None:
        """Mounts the store read-only, or writable again; waits for a file that is being written."""
        how = "ro" if yes else "rw"
        ends = time.monotonic() + 10
        while True:
            try:
                _mount("-o", f"remount,bind,{how}", str(self.store))
            except subprocess.CalledProcessError:  # busy: a file is open for writing
                if time.monotonic() > ends:
                    raise
                time.sleep(0.01)
            else:
                return

    def opened_store(self) -> Store:
        """What the companions keep, as another process sees it."""
        return open_store(Settings(store=str(self.store)))

    def _stop(self) -> None:
        for companion in self.companions:
            if companion.process is not None:
                companion.process.kill()
                companion.process.wait()
        self.torchserve.stop()


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)  # noqa: S607


def _mount_ended(folder: Path) -> None:
    command = ["umount", "--lazy", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def _free_ports(n: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(n)]
        return [one.getsockname()[1] for one in sockets]
