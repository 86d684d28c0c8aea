"""What happens when: the mix of calls, and the faults of a run.

Times are those of a run of ten minutes; a shorter run, for a quick look, has them all in
proportion. They count from the end of two calm minutes, which say what is normal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

FULL_MINUTES: Final = 10.0
_CALM_S: Final = 120.0
SHARE_OF_CAPACITY: Final = 0.8
SEED: Final = 5
SET_IMAGES: Final = 12
"""Images of an uploaded set."""
PERMUTATIONS: Final = 200

# Of a hundred calls. "-client" is lavise.client, which repeats; the others say each error once.
MIX: Final = {
    "explain-grpc": 36,
    "explain-http": 28,
    "explain-client": 12,
    "describe-grpc": 5,
    "describe-http": 5,
    "describe-client": 3,
    "upload-grpc": 1.2,
    "upload-http": 1.2,
    "upload-client": 0.6,
    "compare-grpc": 3,
    "compare-client": 2,
    "page-http": 3,
}
JUDGED: Final = ("explain-grpc", "explain-http")
"""Whose latency says whether the service is back to normal."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        what: One of "worker", "torchserve", "stalled", "read-only", "burst", "roll".
        start: Seconds after the calm minutes.
        lasts: Seconds after which it is taken back; 0 where there is nothing to take back.
    """

    what: str
    start: float
    lasts: float = 0.0

    @property
    def end(self) -> float:
        """When it is taken back."""
        return self.start + self.lasts


@dataclass(frozen=True)
class Plan:
    """A run.

    Args:
        minutes: Of load with faults.
    """

    minutes: float = FULL_MINUTES

    @property
    def scale(self) -> float:
        """How much shorter than a full run it is."""
        return self.minutes / FULL_MINUTES

    @property
    def seconds(self) -> float:
        """Of load with faults."""
        return 60 * self.minutes

    @property
    def calm(self) -> float:
        """Seconds of load before."""
        return _CALM_S * self.scale

    @property
    def faults(self) -> list[Fault]:
        """In order. TorchServe falls before minute 2: from then on memory is watched.

        Two faults that keep Explain calls from being answered are 25 seconds apart or more.
        """
        full = [
            *(Fault("worker", 60.0 * minute) for minute in range(1, 10)),
            Fault("torchserve", 90),
            Fault("stalled", 145),
            Fault("read-only", 190, 30),
            Fault("burst", 265, 5),
            Fault("roll", 330),
        ]
        scaled = (Fault(f.what, f.start * self.scale, f.lasts * self.scale) for f in full)
        return sorted(scaled, key=lambda fault: fault.start)

    def one(self, what: str) -> Fault:
        """The first fault of a kind."""
        return next(fault for fault in self.faults if fault.what == what)


@dataclass(frozen=True)
class Arrival:
    """A call that is due.

    Attributes:
        due: Seconds after the calm minutes, in which it is negative.
        kind: One of MIX.
        seed: Chooses the rest.
    """

    due: float
    kind: str
    seed: int


def arrivals(plan: Plan, rate: float, *, burst: float = 10.0) -> list[Arrival]:
    """Calls that come when they come, whatever became of earlier ones: a Poisson process.

    Args:
        plan: Says when the burst is.
        rate: Calls a second.
        burst: How many times as many come during the burst.

    Returns:
        In order.
    """
    rng = np.random.default_rng(SEED)
    peak = plan.one("burst")
    due: list[float] = []
    for start, end, times in (
        (-plan.calm, peak.start, 1.0),
        (peak.start, peak.end, burst),
        (peak.end, plan.seconds, 1.0),
    ):
        n = rng.poisson(rate * times * (end - start))
        due += np.sort(rng.uniform(start, end, n)).tolist()
    return [Arrival(time, *draw(rng)) for time in due]


def draw(rng: np.random.Generator) -> tuple[str, int]:
    """A kind by its share of the mix, and a seed."""
    kinds, weights = list(MIX), np.array(list(MIX.values()), dtype=float)
    return kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))], int(rng.integers(2**31))
