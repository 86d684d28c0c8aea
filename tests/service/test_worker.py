"""The worker's container program, up to the moment when it is Java."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lavise.errors import EnvironmentProblem, SpecError
from lavise_service import worker
from lavise_service.torchserve.config import EVERYWHERE, HOST

# Says what Java would be: its process, and what it is told.
JAVA = """#!/bin/sh
if [ "$1" = -version ]; then echo 'openjdk version "25"' >&2; exit; fi
echo "pid=$$"
echo "folder=$(pwd)"
while [ $# -gt 0 ]; do [ "$1" = -f ] && cat "$2"; shift; done
"""
ADDRESSES = {
    "grpc": "grpc_inference_address",
    "metrics": "metrics_address",
    "rest": "inference_address",
}
MANAGEMENT = ("management_address", "grpc_management_address")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables for a worker with one model, a Java that only talks, and its own scratch folder."""
    java = tmp_path / "java" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(JAVA)
    java.chmod(0o755)
    for name in ("models", "scratch"):
        (tmp_path / name).mkdir()
    (tmp_path / "models" / "birds.mar").touch()
    return {
        "PATH": os.environ["PATH"],
        "JAVA_HOME": str(tmp_path / "java"),
        "TMPDIR": str(tmp_path / "scratch"),
        "LAVISE_MODEL_STORE": str(tmp_path / "models"),
    }


def start(environment: dict[str, str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-I", "-m", "lavise_service.worker"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def told(environment: dict[str, str]) -> dict[str, str]:
    """What the worker's Java says, which must be the worker's process."""
    with start(environment) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    found = dict(line.split("=", 1) for line in out.splitlines())
    assert int(found["pid"]) == process.pid
    return found


@pytest.mark.parametrize("exposed", [(), ("grpc", "metrics"), ("rest",)])
def test_only_the_named_doors_are_open(
    environment: dict[str, str], exposed: tuple[str, ...]
) -> None:
    config = told(environment | {"LAVISE_WORKER_OPEN": ",".join(exposed)})
    for door, key in ADDRESSES.items():
        assert (EVERYWHERE if door in exposed else HOST) in config[key], key
    assert all(HOST in config[key] for key in MANAGEMENT)
    assert config["load_models"] == "birds=birds.mar"


def test_what_an_earlier_start_left_goes(environment: dict[str, str]) -> None:
    left = Path(environment["TMPDIR"]) / "lavise-worker" / "models" / "old"
    left.mkdir(parents=True)
    folder = Path(told(environment)["folder"])
    assert folder == left.parents[1]
    assert not left.exists()
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("LAVISE_WORKER_OPEN", "grpc,management", "names 'management'; accepted: grpc, metrics"),
        ("LAVISE_MODEL_STORE", "/nowhere", "/nowhere holds no .mar file"),
    ],
)
def test_what_does_not_work_is_said_in_a_line(
    environment: dict[str, str], variable: str, value: str, said: str
) -> None:
    with start(environment | {variable: value}) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_folder_that_cannot_be_had_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lavise-worker").write_text("no folder")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match="Mount a tmpfs at /tmp, or set TMPDIR"):
        worker.run_dir()


def test_names_of_doors_take_commas_and_spaces() -> None:
    assert worker.doors(" grpc, metrics ") == {"grpc", "metrics"}
    assert worker.doors("") == frozenset()
    with pytest.raises(SpecError, match="LAVISE_WORKER_OPEN"):
        worker.doors("http")


def test_models_are_the_archives_of_the_store(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="lavise archive"):
        worker.models(tmp_path)
    for name in ("b.mar", "a.mar", ".b.x.part", "README.md"):
        (tmp_path / name).touch()
    assert worker.models(tmp_path) == ["a", "b"]
