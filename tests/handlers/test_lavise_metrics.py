"""What the worker tells Prometheus of itself and of the machine."""

import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

import lavise_service.torchserve
from lavise_machine import Gpu, Machine, Reading

METRICS = Path(lavise_service.torchserve.__file__).with_name("metrics.yaml")
GPU = ("lavise_gpu_memory_used_bytes", "lavise_gpu_memory_total_bytes")


class DriverError(Exception):
    """pynvml.NVMLError."""


def nvml(utilization: Callable[[str], Any]) -> types.ModuleType:
    """pynvml where there are three GPUs; no machine of the tests has one."""
    module = types.ModuleType("pynvml")
    found = {0: "GPU-a", 1: "GPU-b", 2: "GPU-c"}

    def by_index(index: int) -> str:
        if index not in found:
            raise DriverError("Invalid Argument")
        return found[index]

    module.__dict__.update(
        NVMLError=DriverError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=by_index,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetMemoryInfo=lambda _: types.SimpleNamespace(used=3 << 30, total=24 << 30),
        nvmlDeviceGetUtilizationRates=utilization,
    )
    return module


def busy(_: str) -> Any:
    return types.SimpleNamespace(gpu=35)


def silent(_: str) -> Any:
    raise DriverError("Not Supported")


@pytest.mark.parametrize(
    ("visible", "number", "device"),
    [
        (None, 1, "1"),
        ("", 1, "1"),
        ("2,0", 1, "0"),
        ("GPU-c, GPU-a", 1, "GPU-a"),
        ("MIG-x", 0, "MIG-x"),
    ],
)
def test_the_gpu_is_the_one_that_cuda_means(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, number: int, device: str
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(busy))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpu = Gpu.open(number)
    assert gpu is not None
    assert list(gpu.readings()) == [
        Reading("lavise_gpu_memory_used_bytes", 3 << 30, (device,)),
        Reading("lavise_gpu_memory_total_bytes", 24 << 30, (device,)),
        Reading("lavise_gpu_utilization_ratio", 0.35, (device,)),
    ]


def test_what_a_gpu_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(silent))
    gpu = Gpu.open(0)
    assert gpu is not None
    assert [reading.name for reading in gpu.readings()] == list(GPU)


@pytest.mark.parametrize(("visible", "number"), [(None, 7), ("0", 1)])
def test_a_gpu_that_is_not_there_is_absent(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, number: int
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(busy))
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert Gpu.open(number) is None


def test_without_a_driver_nothing_is_said_of_a_gpu(caplog: pytest.LogCaptureFixture) -> None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        assert Gpu.open(0) is None
        assert "no numbers of GPU 0" in caplog.text
    else:
        pytest.skip("this machine has a driver")


def test_memory_is_that_of_the_workers_and_their_parent() -> None:
    """A process that has a child, which says what both of them take."""
    program = (
        "from lavise_machine import Machine; print(dict(r[:2] for r in Machine(None).readings()))"
    )
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {program!r}], check=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", parent],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ
        | {"PYTHONPATH": str(Path(sys.modules["lavise_machine"].__file__ or "").parent)},
    )
    told = yaml.safe_load(done.stdout)
    assert set(told) == {"lavise_worker_memory_bytes", "lavise_java_memory_bytes"}
    assert all(1 << 20 < value < psutil.virtual_memory().total for value in told.values())


def test_an_orphan_says_nothing_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil.Process, "parent", lambda _: None)
    assert list(Machine(None).readings()) == []


def test_every_label_and_name_is_declared_to_torchserve() -> None:
    declared = yaml.safe_load(METRICS.read_text("utf-8"))["model_metrics"]
    names = {one["name"] for kind in declared.values() for one in kind}
    assert {*GPU, "lavise_gpu_utilization_ratio", "lavise_worker_cpu_seconds_total"} <= names
    for kind, metrics in declared.items():
        for one in metrics:
            assert one["dimensions"][0] == "ModelName"
            if one["name"].startswith("lavise_"):
                assert one["name"].endswith("_total") == (kind == "counter"), one["name"]
