"""Confidence intervals by bootstrap over filters.

Filters are drawn with replacement, whole (Efron, 1979): what is said of one filter over many
images hangs together, so that neither images nor filter-image pairs may be drawn as if alone.
Intervals are of percentiles. One set of draws serves every number of a layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

DRAWS: Final = 1000
LEVEL: Final = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; all NaN where nothing was counted."""

    value: float
    low: float
    high: float


class Bootstrap:
    """Draws of the filters of a layer.

    Args:
        filters: C. Memory is 2,000 C bytes.
        seed: Of the draws.
    """

    def __init__(self, filters: int, *, seed: int) -> None:
        rng = np.random.default_rng(seed)
        chances = np.full(filters, 1 / filters)
        self._times = rng.multinomial(filters, chances, size=DRAWS).astype(np.uint16)

    def ratio(self, part: np.ndarray, whole: np.ndarray) -> Estimate:
        """The ratio of two sums over filters, such as hits of all pairs by the number of pairs.

        Args:
            part: (C,).
            whole: (C,), not negative.

        Returns:
            sum(part) / sum(whole).
        """
        used = np.flatnonzero(whole > 0)
        if not used.size:
            return Estimate(np.nan, np.nan, np.nan)
        times = self._times[:, used].astype(np.float64)  # (draws, used)
        below = times @ whole[used]
        # A draw of rare filters may hold none of them, and then says nothing.
        drawn = (times @ part[used])[below > 0] / below[below > 0]
        edge = (1 - LEVEL) / 2
        low, high = np.quantile(drawn, (edge, 1 - edge))
        return Estimate(float(part[used].sum() / whole[used].sum()), float(low), float(high))

    def mean(self, values: np.ndarray) -> Estimate:
        """The mean over filters.

        Args:
            values: (C,); filters with NaN are left out.

        Returns:
            The mean of the others.
        """
        return self.ratio(np.nan_to_num(values), (~np.isnan(values)).astype(np.float64))
