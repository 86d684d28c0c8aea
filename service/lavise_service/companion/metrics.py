"""What Prometheus sees of the companion: rate, errors and duration of every door, and TorchServe.

One registry per companion, so that two in one process (in tests) do not share numbers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from lavise_service.companion.comparison_metrics import ComparisonMetrics
from lavise_service.companion.problems import REFUSALS, refusal_of
from lavise_service.companion.store_metrics import StoreMetrics

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
# Seconds. An Explain takes tens of milliseconds, an upload minutes.
_BUCKETS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075),
    *(0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0),
)


class Metrics:
    """The companion's numbers.

    Attributes:
        registry: What is scraped.
        store: Numbers of the store.
        comparisons: Numbers of comparisons.
        images: Images of sets, by outcome: ``accepted`` or ``rejected``.
        torchserve_seconds: How long a call to TorchServe took, by what was asked for.
        retries: Calls to TorchServe that were tried again.
        failures: Calls to TorchServe that failed, by the gRPC code or what else was wrong.
        refusals: Calls turned away, by one of ``problems.REFUSALS``.
        ready: 1 while a real prediction works, 0 else.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self._requests = Counter(
            "lavise_companion_requests_total",
            "Calls answered, by door (grpc, http), method, and google.rpc code or HTTP status.",
            ("door", "method", "code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "lavise_companion_request_seconds",
            "How long a call took, from its first byte to the end of its answer.",
            ("door", "method"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "lavise_companion_requests_in_flight",
            "Calls being worked on.",
            ("door",),
            registry=registry,
        )
        self._certificates = Gauge(
            "lavise_companion_certificate_expiry_timestamp_seconds",
            "When a certificate ends that the companion shows: to its callers (server), or to "
            "TorchServe (client).",
            ("certificate",),
            registry=registry,
        )
        self._slots_in_use = Gauge(
            "lavise_companion_slots_in_use",
            "Explain calls, uploads of image sets, and unfinished comparisons that are worked on.",
            ("slots",),
            registry=registry,
        )
        self._slots_limit = Gauge(
            "lavise_companion_slots_limit",
            "How many of them there may be at a time; more are refused.",
            ("slots",),
            registry=registry,
        )
        self.images = Counter(
            "lavise_companion_images_total",
            "Images of sets that were taken in: accepted, or rejected because they cannot be read.",
            ("outcome",),
            registry=registry,
        )
        for outcome in ("accepted", "rejected"):
            self.images.labels(outcome)
        self.store = StoreMetrics(registry)
        self.comparisons = ComparisonMetrics(registry)
        self.torchserve_seconds = Histogram(
            "lavise_companion_torchserve_seconds",
            "How long a call to TorchServe took, each attempt, by what was asked for.",
            ("call",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self.retries = Counter(
            "lavise_companion_torchserve_retries_total",
            "Calls to TorchServe that were tried again.",
            registry=registry,
        )
        self.failures = Counter(
            "lavise_companion_torchserve_failures_total",
            "Calls to TorchServe that failed, by its gRPC code, or not_json, or no_answer.",
            ("reason",),
            registry=registry,
        )
        self.refusals = Counter(
            "lavise_companion_refusals_total",
            "Calls turned away by a rule of the door: who may ask, how much, how fast.",
            ("reason",),
            registry=registry,
        )
        for reason in REFUSALS:
            self.refusals.labels(reason)  # shown as 0, so that the first one is a change
        for reason in ("UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED", "not_json"):
            self.failures.labels(reason)
        self.ready = Gauge(
            "lavise_companion_ready",
            "Whether a real prediction works: 1, or 0.",
            registry=registry,
        )

    @contextmanager
    def call(self, door: str) -> Iterator["Outcome"]:
        """Counts and times one call.

        Args:
            door: ``grpc`` or ``http``.

        Yields:
            Where to write which method it was, and how it ended.
        """
        outcome = Outcome()
        start = perf_counter()
        in_flight = self._in_flight.labels(door)
        in_flight.inc()
        try:
            yield outcome
        finally:
            in_flight.dec()
            outcome.seconds = perf_counter() - start
            self._seconds.labels(door, outcome.method).observe(outcome.seconds)
            self._requests.labels(door, outcome.method, outcome.code).inc()

    def watch_slots(self, name: str, limit: int, taken: Callable[[], int]) -> None:
        """Shows how many slots of a kind there are, and are taken."""
        self._slots_limit.labels(name).set(limit)
        self._slots_in_use.labels(name).set_function(taken)

    def watch_certificate(self, name: str, expiry: Callable[[], float]) -> None:
        """Shows when a certificate ends, asked at each scrape."""
        self._certificates.labels(name).set_function(expiry)

    def refused(self, error: Exception) -> None:
        """Counts an error that turns its call away; other errors are not counted."""
        reason = refusal_of(error)
        if reason is not None:
            self.refusals.labels(reason).inc()

    def exposition(self) -> bytes:
        """Returns the text that Prometheus scrapes; its type is ``CONTENT_TYPE``."""
        return generate_latest(self.registry)


class Outcome:
    """How a call went.

    Attributes:
        method: One of a bounded set of names, never what a caller wrote.
        code: The name of a google.rpc code, or an HTTP status.
        seconds: How long it took; 0 until it ends.
    """

    def __init__(self) -> None:
        self.method = "unmatched"
        self.code = "OK"
        self.seconds = 0.0
