"""ONNX Runtime sessions: which device runs a graph; exactly one runtime may be installed."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final, Literal

from lavise.errors import BundleError, EnvironmentProblem, first_line

if TYPE_CHECKING:
    from pathlib import Path

Device = Literal["auto", "cpu", "cuda"]
_SPIN_US: Final = "30"
"""About what lies between two operators of a CNN that run in threads."""


@cache
def import_onnxruntime() -> Any:  # noqa: ANN401 - the package publishes no types
    """Imports ONNX Runtime once it is sure that exactly one of its two packages is installed.

    Returns:
        The onnxruntime module.

    Raises:
        EnvironmentProblem: Neither or both packages are installed.
    """
    found = []
    for package in ("onnxruntime", "onnxruntime-gpu"):
        try:
            version(package)
        except PackageNotFoundError:
            continue
        found.append(package)
    if not found:
        raise EnvironmentProblem(
            "ONNX Runtime is missing: pip install 'lavise[cpu]', or 'lavise[gpu]' beside a GPU"
        )
    if len(found) > 1:
        raise EnvironmentProblem(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
            "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install 'lavise[cpu]' or "
            "'lavise[gpu]'"
        )
    import onnxruntime

    return onnxruntime


def resolve_device(device: Device) -> Literal["cpu", "cuda"]:
    """Chooses the device that graphs will run on.

    Args:
        device: ``auto`` takes CUDA where ONNX Runtime offers it.

    Returns:
        ``cpu`` or ``cuda``.

    Raises:
        EnvironmentProblem: CUDA was asked for and is not offered.
    """
    available = "CUDAExecutionProvider" in import_onnxruntime().get_available_providers()
    if device == "cuda" and not available:
        raise EnvironmentProblem(
            "device 'cuda' was asked for, but this ONNX Runtime has no CUDA provider: "
            "pip install 'lavise[gpu]', or use device 'cpu'"
        )
    return "cuda" if available and device != "cpu" else "cpu"


def open_session(
    path: Path, *, device: Device = "auto", device_id: int = 0, threads: int | None = None
) -> Any:  # noqa: ANN401 - onnxruntime.InferenceSession, which has no types
    """Opens a graph.

    Args:
        path: The .onnx file; weights that lie beside it are found from there.
        device: Where to run.
        device_id: Which GPU.
        threads: CPU threads; all cores when None.

    Returns:
        An onnxruntime.InferenceSession.

    Raises:
        BundleError: The graph cannot be loaded.
        EnvironmentProblem: The device or the runtime is missing.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors: warnings here are about the graph optimiser itself
    if threads:
        options.intra_op_num_threads = threads
    # By default idle threads spin for milliseconds, and take the cores from whatever decodes images
    # or runs another graph (docs/benchmarks.md).
    options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_US)
    providers: list[Any] = ["CPUExecutionProvider"]
    if resolve_device(device) == "cuda":
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device_id}))
    try:
        return runtime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise BundleError(
            f"{path.name} cannot be loaded: {first_line(error)}", field=path.name
        ) from error
