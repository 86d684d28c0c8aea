"""What a worker takes of the machine: memory, and the GPU that it computes on."""

import logging
import os
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import psutil

_log = logging.getLogger(__name__)


class Reading(NamedTuple):
    """One number, as Prometheus will see it.

    Attributes:
        name: Of the metric.
        value: In the unit that the name says.
        labels: Values of the labels that it has beside the model's name.
    """

    name: str
    value: float
    labels: tuple[str, ...] = ()


class Machine:
    """The processes of this TorchServe, and one GPU.

    Args:
        gpu_id: The GPU's number as CUDA counts; None for a worker on the CPU. Where the driver does
            not answer, nothing is said of a GPU, rather than that it is empty.
    """

    def __init__(self, gpu_id: int | None) -> None:
        self._java = psutil.Process().parent()
        self._gpu = None if gpu_id is None else Gpu.open(gpu_id)

    def readings(self) -> Iterator[Reading]:
        """What can be read just now; the workers of a model all say the same of their sum."""
        if self._java is not None:
            try:
                workers = sum(one.memory_info().rss for one in self._java.children())
                java = self._java.memory_info().rss
            except psutil.Error:  # one of them has ended meanwhile
                pass
            else:
                yield Reading("lavise_worker_memory_bytes", workers)
                yield Reading("lavise_java_memory_bytes", java)
        if self._gpu is not None:
            yield from self._gpu.readings()


class Gpu:
    """One GPU, as NVIDIA's driver sees it.

    Args:
        nvml: The module pynvml, initialised.
        handle: Its name for the GPU.
        device_id: What the GPU is called in metrics.
    """

    def __init__(self, nvml: Any, handle: Any, device_id: str) -> None:  # noqa: ANN401 - no types
        self._nvml = nvml
        self._handle = handle
        self._device_id = device_id

    @classmethod
    def open(cls, gpu_id: int) -> Self | None:
        """Finds the GPU that CUDA gives a number; None where nothing can be known of it."""
        try:
            import pynvml
        except ImportError:
            _log.warning("lavise: no numbers of the GPU: pip install 'lavise[gpu]'")
            return None
        # CUDA counts the devices of this list, by number or by UUID; the driver counts all.
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        try:
            device = visible[gpu_id].strip() if visible != [""] else str(gpu_id)
            pynvml.nvmlInit()
            if device.isdecimal():
                handle = pynvml.nvmlDeviceGetHandleByIndex(int(device))
            else:
                handle = pynvml.nvmlDeviceGetHandleByUUID(device)
        except (pynvml.NVMLError, IndexError) as problem:
            _log.warning("lavise: no numbers of GPU %s: %s", gpu_id, problem)
            return None
        return cls(pynvml, handle, device)

    def readings(self) -> Iterator[Reading]:
        """Memory and utilization; what this GPU does not tell is left out, as with MIG."""
        labels = (self._device_id,)
        try:
            memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
            yield Reading("lavise_gpu_memory_used_bytes", memory.used, labels)
            yield Reading("lavise_gpu_memory_total_bytes", memory.total, labels)
            busy = self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu  # percent
            yield Reading("lavise_gpu_utilization_ratio", busy / 100, labels)
        except self._nvml.NVMLError:
            return
