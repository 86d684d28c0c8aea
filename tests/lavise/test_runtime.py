from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnxruntime
import pytest

from lavise import runtime
from lavise.errors import BundleError, EnvironmentProblem
from lavise.runtime import import_onnxruntime, open_session, resolve_device

PACKAGES = ("onnxruntime", "onnxruntime-gpu")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    import_onnxruntime.cache_clear()
    yield
    import_onnxruntime.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, *installed: str) -> None:
    """Has the metadata tell of these packages and no other ONNX Runtime."""

    def found(package: str) -> str:
        if package in PACKAGES and package not in installed:
            raise PackageNotFoundError(package)
        return "1.0" if package in PACKAGES else version(package)

    monkeypatch.setattr(runtime, "version", found)


@pytest.mark.parametrize("package", PACKAGES)
def test_either_package_will_do(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, package)
    assert import_onnxruntime() is onnxruntime


def test_without_a_runtime_the_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    with pytest.raises(EnvironmentProblem, match=r"missing.*lavise\[cpu\].*lavise\[gpu\]"):
        import_onnxruntime()


def test_two_runtimes_are_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, *PACKAGES)
    with pytest.raises(EnvironmentProblem, match=r"both installed.*pip uninstall"):
        open_session(Path("any.onnx"))
    install(monkeypatch, "onnxruntime")
    assert import_onnxruntime() is onnxruntime  # a failure is not remembered


def test_cuda_is_taken_where_it_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"
    assert resolve_device("cpu") == "cpu"


def test_cuda_that_is_not_offered_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    with pytest.raises(EnvironmentProblem, match="no CUDA provider"):
        resolve_device("cuda")


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x0a"])
def test_damaged_graph_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "cnn.onnx"
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"cnn\.onnx cannot be loaded") as caught:
        open_session(file, device="cpu")
    assert caught.value.field == "cnn.onnx"


def test_missing_graph_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cnn\.onnx cannot be loaded"):
        open_session(tmp_path / "cnn.onnx", device="cpu")
