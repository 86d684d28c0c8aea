"""Run TorchServe as a child that never outlives its parent.

TorchServe's own launcher starts Java and forgets it: a signal to the launcher leaves Java and
its workers running. Here Java is started directly, in a process group of its own, on loopback
ports, and the whole group is gone when ``stop`` returns. TorchServe is ready when the *model*
answers; its ``/ping`` says Healthy without any worker.
"""

import collections
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import httpx

from lavise.errors import EnvironmentProblem
from lavise_service.torchserve.config import (
    HOST,
    Ports,
    environment,
    java_command,
    write_config,
)
from lavise_service.torchserve.java import Java, find_java
from lavise_service.torchserve.log import failure, last_lines

_STOP_GRACE_S = 10.0
_POLL_S = 0.1
_LOG_LINES = 400
# A socket's path has at most 107 bytes on Linux; the workers' are called .ts.sock.9000 and on.
_LONGEST_RUN_DIR = 107 - len("/.ts.sock.65535")
# Becomes Java, after asking Linux to end this process when its parent is gone, however it went.
_EXEC_TIED_TO_PARENT = """
import ctypes, os, sys
PR_SET_PDEATHSIG, SIGTERM = 1, 15
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class TorchServe:
    """One TorchServe on loopback, as a context manager.

    Args:
        model_store: The directory of the ``.mar`` files.
        models: Which to load, by name; every one of the store when empty.
        ports: Where it listens; free ports when left out.
        start_timeout_s: How long the models may take to answer.
        echo: Where every line of its log goes as well, such as ``sys.stderr``.
    """

    def __init__(
        self,
        model_store: Path,
        *,
        models: Sequence[str] = (),
        ports: Ports | None = None,
        start_timeout_s: float = 120.0,
        echo: TextIO | None = None,
    ) -> None:
        self.model_store = model_store.resolve()
        self.models = tuple(models) or tuple(sorted(p.stem for p in model_store.glob("*.mar")))
        self.ports = ports or Ports.free()
        self._start_timeout_s = start_timeout_s
        self._echo = echo
        self._log: collections.deque[str] = collections.deque(maxlen=_LOG_LINES)
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._run_dir: Path | None = None

    @property
    def rest_url(self) -> str:
        """Where ``/predictions/NAME`` is."""
        return f"http://{HOST}:{self.ports.rest}"

    @property
    def management_url(self) -> str:
        """Where ``/models/NAME`` is."""
        return f"http://{HOST}:{self.ports.management}"

    @property
    def metrics_url(self) -> str:
        """What Prometheus scrapes."""
        return f"http://{HOST}:{self.ports.metrics}/metrics"

    @property
    def grpc_target(self) -> str:
        """What a gRPC channel is opened to."""
        return f"{HOST}:{self.ports.grpc}"

    @property
    def log(self) -> list[str]:
        """The last lines that Java and the workers wrote."""
        return list(self._log)

    @property
    def pid(self) -> int | None:
        """The number of the Java process, and of the process group; None when stopped."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """Whether Java is alive."""
        return self._process is not None and not _has_ended(self._process.pid)

    def start(self, *, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Starts Java and returns once every model answers.

        Args:
            should_stop: Asked while waiting; once it says True, this returns early.

        Raises:
            EnvironmentProblem: If there is no Java, no TorchServe, no such archive, a port is
                taken, TMPDIR is too long a name, a worker cannot load its model, or time is up.
                Nothing is left running.
        """
        self._check_store()
        self.ports.check()
        java = find_java()
        try:
            self._spawn(java)
            self._await_models(should_stop)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends Java and every worker: SIGTERM, then SIGKILL to what is left of the group."""
        if self._process is not None:
            pid = self._process.pid
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_GRACE_S
            while not _has_ended(pid) and time.monotonic() < deadline:
                time.sleep(_POLL_S / 2)
            # Java is not reaped yet, so its number cannot have gone to another group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        if self._reader is not None:
            self._reader.join(timeout=_STOP_GRACE_S)
            self._reader = None
        if self._run_dir is not None:
            shutil.rmtree(self._run_dir, ignore_errors=True)
            self._run_dir = None

    def raise_if_ended(self) -> None:
        """Raises EnvironmentProblem with the last lines of the log where Java has ended."""
        if not self.running:
            raise EnvironmentProblem(
                f"TorchServe has ended by itself. Its last words:\n{last_lines(self.log)}",
                field="torchserve",
            )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _check_store(self) -> None:
        if not self.models:
            raise EnvironmentProblem(
                f"{self.model_store} holds no .mar file. Make one with: lavise archive BUNDLE",
                field=str(self.model_store),
            )
        for name in self.models:
            if not (self.model_store / f"{name}.mar").is_file():
                raise EnvironmentProblem(
                    f"{self.model_store} holds no {name}.mar. Make it with: lavise archive BUNDLE",
                    field=name,
                )

    def _spawn(self, java: Java) -> None:
        # Private (0700): the workers' sockets lie in it.
        self._run_dir = Path(tempfile.mkdtemp(prefix="lavise-"))
        if len(os.fsencode(self._run_dir)) > _LONGEST_RUN_DIR:
            raise EnvironmentProblem(
                f"the folder for temporary files, {tempfile.gettempdir()}, has too long a name for "
                "the sockets of TorchServe's workers: set TMPDIR to a shorter one, such as /tmp",
                field="TMPDIR",
            )
        config = write_config(self._run_dir, self.model_store, self.models, self.ports)
        command = java_command(java, config)
        # Linux means the parent's thread, not its process: only the main one lives long enough.
        if sys.platform == "linux" and threading.current_thread() is threading.main_thread():
            tie = [sys.executable, "-I", "-S", "-c", _EXEC_TIED_TO_PARENT, str(os.getpid())]
            command = tie + command
        self._log.clear()
        self._process = subprocess.Popen(
            command,
            cwd=self._run_dir,
            env=environment(self._run_dir),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self) -> None:
        """Keeps the last lines; it must go on reading, or Java blocks on a full pipe."""
        if self._process is None or self._process.stdout is None:
            return
        with self._process.stdout as lines:
            for line in lines:
                self._log.append(line.rstrip())
                if self._echo is not None:
                    try:
                        self._echo.write(line)
                        self._echo.flush()
                    except (OSError, ValueError):  # the terminal is gone
                        self._echo = None

    def _await_models(self, should_stop: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        waiting = set(self.models)
        # Proxies named in the environment have no business on loopback.
        with httpx.Client(base_url=self.management_url, trust_env=False, timeout=5) as client:
            while waiting and not should_stop():
                self.raise_if_ended()
                if failure(self.log):
                    time.sleep(_POLL_S * 5)  # the worker's last words come by another thread
                    raise EnvironmentProblem(failure(self.log) or "", field="torchserve")
                if time.monotonic() > deadline:
                    raise EnvironmentProblem(
                        f"{', '.join(sorted(waiting))} did not answer within "
                        f"{self._start_timeout_s:g} s. The last words of TorchServe:\n"
                        f"{last_lines(self.log)}",
                        field="torchserve",
                    )
                waiting = {name for name in waiting if not _is_ready(client, name)}
                time.sleep(_POLL_S)


def _is_ready(client: httpx.Client, name: str) -> bool:
    """Whether every worker of a model has loaded it."""
    try:
        answer = client.get(f"/models/{name}")
    except httpx.TransportError:  # Java is not there yet
        return False
    if answer.status_code != httpx.codes.OK:
        return False
    workers = answer.json()[0]["workers"]
    return bool(workers) and all(worker["status"] == "READY" for worker in workers)


def _has_ended(pid: int) -> bool:
    """Whether a child has ended, without reaping it (its number stays taken)."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return ended is not None
