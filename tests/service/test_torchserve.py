"""A real TorchServe with a handler of a few lines: how it starts, fails and ends."""

import contextlib
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lavise.errors import EnvironmentProblem
from lavise_service.torchserve import Ports, TorchServe
from lavise_service.torchserve.config import write_config

psutil: Any = importlib.import_module("psutil")  # TorchServe brings it; it has no types
ECHO = """
def handle(data, context):
    return None if data is None else [f"{len(row)} entries".encode() for row in data]
"""
SERVE = """
import sys
from pathlib import Path
from lavise_service.torchserve import TorchServe, run_forever
server = TorchServe(Path(sys.argv[1]))
run_forever(server, when_ready=lambda ready: print(ready.pid, flush=True))
print("stopped", flush=True)
"""


def store(folder: Path, handler: str) -> Path:
    """A model store whose one archive is a handler alone."""
    manifest = {"runtime": "python", "model": {"modelName": "echo", "handler": "echo_handler.py"}}
    manifest["model"] |= {"modelVersion": "1.0"}  # type: ignore[operator]
    with zipfile.ZipFile(folder / "echo.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("echo_handler.py", handler)
    return folder


def alive(group: int) -> list[str]:
    """The names of the processes of a group, without those that only wait to be reaped."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.name()[:6])
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return condition()


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A process in run_forever, and the process group of its Java."""
    command = [sys.executable, "-c", SERVE, str(store(tmp_path, ECHO))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        group = int(process.stdout.readline())
        run_dir = psutil.Process(group).cwd()
        yield process, group
        process.kill()
    shutil.rmtree(run_dir, ignore_errors=True)  # what a killed parent cannot remove


@pytest.mark.server
def test_answers_when_ready_and_leaves_nothing(tmp_path: Path) -> None:
    with TorchServe(store(tmp_path, ECHO)) as server:
        assert server.running
        group = server.pid or 0
        answer = httpx.post(f"{server.rest_url}/predictions/echo", content=b"x", trust_env=False)
        assert answer.text == "1 entries"
        assert sorted(alive(group)) == ["java", "python"]
        run_dir = server._run_dir
        assert run_dir is not None
        assert run_dir.stat().st_mode & 0o777 == 0o700
    assert not alive(group)
    assert not run_dir.exists()
    assert not server.running
    server.stop()  # once more changes nothing


@pytest.mark.server
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_in_the_foreground_stops_java_and_workers(
    serving: tuple["subprocess.Popen[str]", int], number: int
) -> None:
    process, group = serving
    assert sorted(alive(group)) == ["java", "python"]
    process.send_signal(number)
    assert process.wait(timeout=30) == 0
    assert process.stdout is not None
    assert process.stdout.read() == "stopped\n"
    assert not alive(group)


@pytest.mark.server
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_a_killed_parent_leaves_nothing(
    serving: tuple["subprocess.Popen[str]", int],
) -> None:
    process, group = serving
    process.kill()
    assert wait_until(lambda: not alive(group))


@pytest.mark.server
def test_a_frozen_java_is_killed(serving: tuple["subprocess.Popen[str]", int]) -> None:
    process, group = serving
    os.killpg(group, signal.SIGSTOP)
    process.terminate()
    assert process.wait(timeout=30) == 0
    assert wait_until(lambda: not alive(group), 5)


@pytest.mark.server
def test_a_java_that_ends_by_itself_is_an_error(tmp_path: Path) -> None:
    with TorchServe(store(tmp_path, ECHO)) as server:
        os.kill(server.pid or 0, signal.SIGKILL)
        assert wait_until(lambda: not server.running)
        with pytest.raises(EnvironmentProblem, match="ended by itself"):
            server.raise_if_ended()


@pytest.mark.server
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("raise ValueError('the weights are gone')", "ValueError: the weights are gone"),
        ("raise RuntimeError('no memory')", "RuntimeError: no memory"),
        ("import os; os._exit(3)", "Load model failed: echo"),
    ],
)
def test_a_worker_that_cannot_load_says_why(tmp_path: Path, fault: str, told: str) -> None:
    server = TorchServe(store(tmp_path, f"def handle(data, context):\n    {fault}\n"))
    with pytest.raises(EnvironmentProblem, match=told):
        server.start()
    assert server.pid is None


@pytest.mark.server
def test_waiting_ends(tmp_path: Path) -> None:
    slow = "import time\ndef handle(data, context):\n    time.sleep(600)\n"
    server = TorchServe(store(tmp_path, slow), start_timeout_s=4)
    with pytest.raises(EnvironmentProblem, match="echo did not answer within 4 s"):
        server.start()
    assert server.pid is None


@pytest.mark.server
def test_a_stop_while_starting_counts(tmp_path: Path) -> None:
    server = TorchServe(store(tmp_path, ECHO))
    server.start(should_stop=lambda: True)
    server.stop()
    assert server.pid is None


def test_a_temporary_folder_too_deep_for_sockets_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with pytest.raises(EnvironmentProblem, match="TMPDIR to a shorter one"):
        TorchServe(store(tmp_path, ECHO)).start()
    assert list(deep.iterdir()) == []


def test_a_taken_port_is_named_before_java_starts(tmp_path: Path) -> None:
    server = TorchServe(store(tmp_path, ECHO))
    with socket.socket() as other:
        other.bind(("127.0.0.1", server.ports.grpc))
        other.listen()
        with pytest.raises(EnvironmentProblem, match=rf"port {server.ports.grpc} .*\(grpc\)") as e:
            server.start()
    assert e.value.field == "grpc"


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(EnvironmentProblem, match="cannot be used"):
        Ports(rest=port).check()


def test_free_ports_are_five_and_free() -> None:
    ports = Ports.free()
    ports.check()
    numbers = {ports.rest, ports.management, ports.metrics, ports.grpc, ports.grpc_management}
    assert len(numbers) == 5


def test_an_empty_store_and_a_missing_archive_are_errors(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"no \.mar file.*lavise archive"):
        TorchServe(tmp_path).start()
    with pytest.raises(EnvironmentProblem, match=r"no birds\.mar.*lavise archive"):
        TorchServe(store(tmp_path, ECHO), models=["birds"]).start()


def test_the_configuration_keeps_strange_paths(tmp_path: Path) -> None:
    model_store = tmp_path / "Füße 🐈 \\n = #"
    text = write_config(tmp_path, model_store, ["a", "b"], Ports()).read_text(encoding="ascii")
    written = next(line for line in text.splitlines() if line.startswith("model_store="))
    # What java.util.Properties undoes: doubled backslashes and \uXXXX of UTF-16 units.
    value = written.removeprefix("model_store=").replace("\\\\", "\\u005c")
    parts = value.split("\\u")
    units = "".join([parts[0], *(chr(int(part[:4], 16)) + part[4:] for part in parts[1:])])
    assert units.encode("utf-16", "surrogatepass").decode("utf-16") == str(model_store)
    assert "load_models=a=a.mar,b=b.mar\n" in text
