"""``lavise serve`` as a process: TorchServe and the companion begin together and end together."""

import importlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest

from lavise.bundle import open_bundle
from lavise.client import Client
from lavise_service.client import RestClient
from lavise_service.torchserve import Ports
from tests.command_line import LAVISE

psutil: Any = importlib.import_module("psutil")  # TorchServe brings it; it has no types
pytestmark = pytest.mark.server


@dataclass
class Serving:
    """The program, when it says that it serves."""

    process: "subprocess.Popen[str]"
    temporary: Path
    doors: dict[str, str]
    reader: threading.Thread = field(init=False)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self.log.extend, args=(self.process.stderr,))
        self.reader.start()

    def said(self) -> str:
        """All that it and its servers said, once it has ended."""
        self.reader.join(timeout=10)
        return "".join(self.log)

    def family(self) -> list[Any]:
        """Every process that belongs to it, in whichever group."""
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]

    def java(self) -> Any:
        [found] = [one for one in self.family() if one.name() == "java"]
        return found


@contextmanager
def serving(bundle: Path, folder: Path) -> Iterator[Serving]:
    """Runs the program in a group of its own, as a shell does, with what it writes in a folder."""
    ports = Ports.free()
    options = {
        "--port": ports.rest,
        "--management-port": ports.management,
        "--metrics-port": ports.metrics,
        "--grpc-port": ports.grpc,
        "--grpc-management-port": ports.grpc_management,
    }
    environment = {
        **os.environ,
        "LAVISE_GRPC_LISTEN": "127.0.0.1:0",
        "LAVISE_HTTP_LISTEN": "127.0.0.1:0",
        "LAVISE_STORE": str(folder / "store"),
    }
    with (
        TemporaryDirectory() as temporary,  # a test's own has too long a name for sockets
        subprocess.Popen(
            [LAVISE, "serve", "--bundle", bundle, *(str(w) for p in options.items() for w in p)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment | {"TMPDIR": temporary},
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout is not None
        made = Serving(process, Path(temporary), {"rest": f"http://127.0.0.1:{ports.rest}"})
        try:
            for line in process.stdout:
                if place := re.match(r" {2}(HTTP|gRPC) +(\S+:\d+)", line):
                    made.doors.setdefault(*place.groups())
                if line.startswith("  curl"):
                    break
            assert process.poll() is None, made.said()
            yield made
        finally:
            process.kill()  # Java goes with it
            made.said()


def assert_ended(serving: Serving, family: list[Any], status: int) -> None:
    """It ends within seconds, and nothing of it is left: no process, no file, no open port."""
    started = time.monotonic()
    assert serving.process.wait(timeout=30) == status, serving.said()
    assert time.monotonic() - started < 15
    _, alive = psutil.wait_procs(family, timeout=1)
    assert not alive
    assert list(serving.temporary.iterdir()) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{serving.doors['HTTP']}/healthz", trust_env=False)


def test_both_answer_until_sigterm(tiny_bundle: Path, tomato: Path, tmp_path: Path) -> None:
    digest = open_bundle(tiny_bundle).digest
    with serving(tiny_bundle, tmp_path) as running:
        with Client(running.doors["gRPC"]) as lavise:
            answer = lavise.explain([tomato], most_active=2, layer="body")
        assert answer.bundle_digest == digest
        assert len(answer.images[0].filters) == 2
        with httpx.Client(base_url=running.doors["HTTP"], trust_env=False, timeout=30) as http:
            assert http.post("/v1/explain", content=tomato.read_bytes()).is_success
            deadline = time.monotonic() + 10
            while not http.get("/readyz").is_success:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        with RestClient(running.doors["rest"]) as torchserve:
            assert torchserve.explain_image(tomato.read_bytes())["bundleDigest"] == digest
        family = running.family()
        assert len(family) >= 3, "the program, Java and a worker"
        running.process.terminate()
        assert_ended(running, family, 0)
        assert "Traceback" not in running.said()
        assert running.log[-1] == "stopped\n"


def test_ctrl_c_ends_both(tiny_bundle: Path, tmp_path: Path) -> None:
    with serving(tiny_bundle, tmp_path) as running:
        family = running.family()
        os.killpg(running.process.pid, signal.SIGINT)  # as a terminal does
        os.killpg(running.process.pid, signal.SIGINT)  # and once more, out of impatience
        assert_ended(running, family, 0)
        assert "Traceback" not in running.said()
        assert running.log[-1] == "stopped\n"


def test_a_java_that_ends_by_itself_ends_both(tiny_bundle: Path, tmp_path: Path) -> None:
    with serving(tiny_bundle, tmp_path) as running:
        family = running.family()
        running.java().kill()
        assert_ended(running, family, 1)
        assert "error: TorchServe has ended by itself" in running.said()
        assert "Traceback" not in running.said()
