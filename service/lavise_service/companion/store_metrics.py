"""What Prometheus sees of the store: every operation on a file, how long it took, what failed."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Final, Literal, TypeAlias, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram

Operation: TypeAlias = Literal["list", "read", "write", "delete"]
Trouble: TypeAlias = Literal["full", "unavailable"]
# A local file takes a millisecond, a profile on S3 minutes.
_BUCKETS: Final = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


class StoreMetrics:
    """The store's numbers.

    Args:
        registry: Where they are kept.

    Attributes:
        read_bytes: Of the files that were read, whole or in part.
        written_bytes: Of the files that were written.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "lavise_companion_store_operation_seconds",
            "How long an operation on the store's files took, successful or not; that of a file "
            "read or written piece by piece includes the work on the pieces.",
            ("operation",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._errors = Counter(
            "lavise_companion_store_errors_total",
            "Operations that failed: full (no room), or unavailable (anything else).",
            ("operation", "reason"),
            registry=registry,
        )
        for operation in get_args(Operation):
            self._seconds.labels(operation)
            for trouble in get_args(Trouble):
                self._errors.labels(operation, trouble)
        self.read_bytes = Counter(
            "lavise_companion_store_read_bytes_total",
            "Bytes of the store's files that were read, whole or in part.",
            registry=registry,
        )
        self.written_bytes = Counter(
            "lavise_companion_store_written_bytes_total",
            "Bytes that were written to the store.",
            registry=registry,
        )

    @contextmanager
    def timed(self, operation: Operation) -> Iterator[None]:
        """Times one operation."""
        start = perf_counter()
        try:
            yield
        finally:
            self._seconds.labels(operation).observe(perf_counter() - start)

    def failed(self, operation: Operation, trouble: Trouble) -> None:
        """Counts an operation that failed."""
        self._errors.labels(operation, trouble).inc()
