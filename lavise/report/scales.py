"""Values to places on a horizontal axis, in percent of its width.

Percentages, not pixels: the same drawing fits a screen of any width and its text keeps its size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_LEAST_SHARE: Final = 0.26
"""Share of a diverging axis that each direction has at least: its label must fit."""

_NOTHING: Final = 1e-9
"""Differences below this are rounding."""


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, `low` < `high`, with round ticks inside."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Where a value stands, 0 to 100; beyond an end, at the end; the middle for NaN."""
        if math.isnan(value):
            return 50.0
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(100 * share, 2)

    def span(self, one: float, other: float) -> tuple[float, float]:
        """Start and width of the stretch between two values."""
        start, end = sorted((self.at(one), self.at(other)))
        return start, round(end - start, 2)


def diverging_scale(values: Iterable[float]) -> Scale:
    """An axis with zero inside, and room for a label on both sides of it.

    Args:
        values: What must fit, in any unit; what is not finite is left out.

    Returns:
        The axis; -1 to 1 where no value differs from zero.
    """
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < _NOTHING:
        low, high = -1.0, 1.0
    ratio = _LEAST_SHARE / (1 - _LEAST_SHARE)
    low, high = min(low, -high * ratio), max(high, -low * ratio)
    margin = (high - low) * 0.02
    return _with_ticks(low - margin, high + margin)


def share_scale(shares: Iterable[float]) -> Scale:
    """An axis from 0 to just above the largest share, at most 1."""
    finite = [share for share in shares if math.isfinite(share)]
    largest = max(finite, default=0.0)
    return _with_ticks(0.0, min(largest * 1.05, 1.0) if largest >= _NOTHING else 1.0)


def _with_ticks(low: float, high: float) -> Scale:
    """Four to seven ticks at a round distance, zero among them where it is inside."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(one * power for one in _STEPS if one * power >= rough * 0.999)
    first, last = math.ceil(low / step), math.floor(high / step)
    return Scale(low, high, tuple(number * step for number in range(first, last + 1)))
