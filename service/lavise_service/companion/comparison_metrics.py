"""What Prometheus sees of comparisons: how they ended, how long they took, how far the one is."""

from collections.abc import Callable, Iterator
from typing import Final, Literal, TypeAlias, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily

Outcome: TypeAlias = Literal["done", "failed", "given_up"]
Progress: TypeAlias = tuple[str, float]
_BUCKETS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1800.0)


class ComparisonMetrics:
    """The numbers of comparisons.

    Args:
        registry: Where they are kept.

    Attributes:
        ended: Counts comparisons by their outcome.
        seconds: Times the work on each, without the wait for its turn.
        progress: Asked at each scrape: the stage and the share done of the comparison that is
            worked on, None where none is.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ended = Counter(
            "lavise_companion_comparisons_total",
            "Comparisons that ended: done, failed, or given_up before that.",
            ("outcome",),
            registry=registry,
        )
        for outcome in get_args(Outcome):
            self.ended.labels(outcome)
        self.seconds = Histogram(
            "lavise_companion_comparison_seconds",
            "How long a comparison was worked on, without the wait for its turn.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self.progress: Callable[[], Progress | None] = lambda: None
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The progress, for the registry; no number where nothing is worked on."""
        family = GaugeMetricFamily(
            "lavise_companion_comparison_progress_ratio",
            "Share done of the stage that the comparison is in which is worked on.",
            labels=("stage",),
        )
        progress = self.progress()
        if progress is not None:
            stage, done = progress
            family.add_metric((stage,), done)
        yield family
