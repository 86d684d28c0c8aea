"""Looks at the servers' memory, and at what else the machine does, while the load runs."""

from __future__ import annotations

import importlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Self

from reliability.records import Look

if TYPE_CHECKING:
    from types import TracebackType

    from reliability.servers import Servers

psutil: Any = importlib.import_module("psutil")  # TorchServe brings it; it has no types
_EVERY_S: Final = 2.0
LOOKS_A_MINUTE: Final = int(60 / _EVERY_S)
WORKER: Final = "oldest worker"
JAVA: Final = "TorchServe's Java"


class Watch:
    """A thread that looks every two seconds, as a context manager.

    Attributes:
        looks: What it saw.
        foreign: Cores used by processes that are not ours, one number a look: ours are all that
            this process sees, since it runs in a PID namespace of its own.
    """

    def __init__(self, servers: Servers, begin: float) -> None:
        self._servers, self._begin = servers, begin
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.looks: list[Look] = []
        self.foreign: list[float] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        before, ours_before = _machine_seconds(), _our_seconds()
        start = time.monotonic()
        while not self._ended.wait(_EVERY_S):
            self._memory()
            after, ours, now = _machine_seconds(), _our_seconds(), time.monotonic()
            # A process that ended takes its seconds with it: count what those still there used.
            used = sum(max(0.0, s - ours_before.get(p, 0.0)) for p, s in ours.items())
            self.foreign.append(max(0.0, after - before - used) / (now - start))
            before, ours_before, start = after, ours, now

    def _memory(self) -> None:
        torchserve, companions = self._servers.torchserve, self._servers.companions
        roles = {f"companion {i + 1}": one.process for i, one in enumerate(companions)}
        pids = [(role, process.pid) for role, process in roles.items() if process is not None]
        if torchserve.pid is not None:
            pids.append((JAVA, torchserve.pid))
        pids += [(WORKER, worker.pid) for worker in self._servers.workers[:1]]
        for role, pid in pids:
            try:
                info = psutil.Process(pid).memory_full_info()
            except psutil.Error:  # it has just ended
                continue
            if info.rss:
                at = round(time.monotonic() - self._begin, 1)
                self.looks.append(Look(at, role, pid, info.rss, info.pss))


def _machine_seconds() -> float:
    """Core seconds that the machine has worked, and those that a hypervisor gave to others."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _our_seconds() -> dict[tuple[int, float], float]:
    """Core seconds of each process that is ours."""
    found = {}
    for process in psutil.process_iter():
        try:
            times = process.cpu_times()
            found[process.pid, process.create_time()] = times.user + times.system
        except psutil.Error:
            continue
    return found
