"""The numbers of the worker that Prometheus sees.

TorchServe reads them from lines that the worker prints, and drops those that its metrics file does
not name: lavise_service/torchserve/metrics.yaml. It keeps them for the workers of a model together:
counters and histograms add up, of a gauge the latest value stands.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from lavise_machine import Machine

_EVERY_S = 5.0


class Metrics:
    """What batches did, and what the machine says.

    Args:
        cache: TorchServe's ``context.metrics``.
        model: The name that the model is served under.
    """

    def __init__(self, cache: Any, model: str) -> None:  # noqa: ANN401 - ts has no types
        from ts.metrics.metric_type_enum import MetricTypes

        def metric(kind: Any, name: str, unit: str, *labels: str) -> Any:  # noqa: ANN401 - ts
            known = cache.cache.get(kind, {}).get(name)
            names = ["ModelName", *labels]
            return known or cache.add_metric_to_cache(name, unit, names, kind)

        counter, gauge, histogram = MetricTypes.COUNTER, MetricTypes.GAUGE, MetricTypes.HISTOGRAM
        self._model = model
        self._requests = metric(counter, "lavise_requests_total", "count")
        self._images = metric(counter, "lavise_images_total", "count")
        self._filters = metric(counter, "lavise_filters_explained_total", "count")
        self._errors = metric(counter, "lavise_errors_total", "count", "Kind")
        self._batch_size = metric(gauge, "lavise_batch_size", "count")
        self._batch_seconds = metric(histogram, "lavise_batch_seconds", "s")
        self._stage_seconds = metric(histogram, "lavise_stage_seconds", "s", "Stage")
        self._cpu_seconds = metric(counter, "lavise_worker_cpu_seconds_total", "s")
        self._machine = {
            "lavise_worker_memory_bytes": metric(gauge, "lavise_worker_memory_bytes", "bytes"),
            "lavise_java_memory_bytes": metric(gauge, "lavise_java_memory_bytes", "bytes"),
        }
        for name, unit in (
            ("lavise_gpu_memory_used_bytes", "bytes"),
            ("lavise_gpu_memory_total_bytes", "bytes"),
            ("lavise_gpu_utilization_ratio", "ratio"),
        ):
            self._machine[name] = metric(gauge, name, unit, "DeviceId")

    def record(
        self,
        *,
        requests: int,
        images: int,
        filters: int,
        errors: Counter[str],
        seconds: float,
        stages: Mapping[str, float],
    ) -> None:
        """Adds what one batch did.

        Args:
            requests: In the batch.
            images: That could be decoded.
            filters: That were explained.
            errors: Requests that failed, by the name of the google.rpc code.
            seconds: That the batch took.
            stages: Seconds of each stage; those that did not run are left out.
        """
        own = [self._model]
        self._requests.add_or_update(requests, own)
        self._batch_size.add_or_update(requests, own)
        self._images.add_or_update(images, own)
        self._filters.add_or_update(filters, own)
        self._batch_seconds.add_or_update(seconds, own)
        for stage, spent in stages.items():
            if spent > 0:
                self._stage_seconds.add_or_update(spent, [*own, stage])
        for kind, count in errors.items():
            self._errors.add_or_update(count, [*own, kind])

    def watch(self, machine: Machine) -> None:
        """Shows what the machine says from now on, whether anybody asks or not."""
        threading.Thread(target=self._watch, args=(machine,), daemon=True).start()

    def _watch(self, machine: Machine) -> None:
        # Shown as 0, so that the first one is a change.
        self._errors.add_or_update(0, [self._model, "INTERNAL"])
        spent = 0.0
        while True:
            before, spent = spent, time.process_time()
            self._cpu_seconds.add_or_update(spent - before, [self._model])
            for reading in machine.readings():
                labels = [self._model, *reading.labels]
                self._machine[reading.name].add_or_update(reading.value, labels)
            time.sleep(_EVERY_S)
