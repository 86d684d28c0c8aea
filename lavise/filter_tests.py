"""How filters differ between two sets of images: rates, intervals, AUROC, tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import stats

from lavise.progress import Track, silent

if TYPE_CHECKING:
    from lavise.profile import Profile

_VALUES_AT_ONCE: Final = 1 << 20
"""Activations that are ranked at once, to bound the memory; scipy's call takes over a millisecond
however few they are."""
_CONFIDENCE: Final = 0.95


@dataclass(frozen=True)
class FilterTests:
    """The outcome for C filters.

    Attributes:
        auroc: (C,) chance that an image of a excites the filter more than one of b, ties half.
        p_value: (C,) Mann-Whitney, two-sided, corrected for ties.
        q_value: (C,) Benjamini-Hochberg over the filters.
    """

    auroc: np.ndarray
    p_value: np.ndarray
    q_value: np.ndarray


def compare_activations(a: Profile, b: Profile, *, track: Track = silent) -> FilterTests:
    """Compares every filter's activation between two profiles.

    Args:
        a: At least one image.
        b: Likewise, of the same schema.
        track: Shows progress.

    Returns:
        The outcome; a filter with one value on all images has AUROC 0.5 and p-value 1.
    """
    C = a.schema.channels
    auroc, p_value = np.full(C, 0.5), np.ones(C)
    step = max(1, _VALUES_AT_ONCE // (len(a) + len(b)))
    starts = range(0, C, step)
    for start in track(starts, "filters", len(starts)):
        some = slice(start, start + step)
        x, y = a.activation[:, some], b.activation[:, some]
        low = np.minimum(x.min(axis=0), y.min(axis=0))
        varies = np.flatnonzero(np.maximum(x.max(axis=0), y.max(axis=0)) > low)
        if varies.size:
            found = stats.mannwhitneyu(x[:, varies], y[:, varies], axis=0, method="asymptotic")
            auroc[start + varies] = found.statistic / (len(x) * len(y))
            p_value[start + varies] = found.pvalue
    return FilterTests(auroc, p_value, stats.false_discovery_control(p_value, method="bh"))


def rate_difference(
    hits_a: np.ndarray, n_a: int, hits_b: np.ndarray, n_b: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The difference of two rates with Newcombe's hybrid score interval.

    Newcombe (1998), Statistics in Medicine 17, 873-890, method 10: the Wilson intervals of the
    two rates, combined. It holds its level where rates are near 0 or 1, as they are here.

    Args:
        hits_a: (C,) successes among the n_a.
        n_a: At least 1.
        hits_b: (C,) successes among the n_b.
        n_b: At least 1.

    Returns:
        Rate a minus rate b, and the interval's ends, 95 %; each (C,).
    """
    rate_a, low_a, high_a = _wilson(hits_a, n_a)
    rate_b, low_b, high_b = _wilson(hits_b, n_b)
    difference = rate_a - rate_b
    low = difference - np.hypot(rate_a - low_a, high_b - rate_b)
    high = difference + np.hypot(high_a - rate_a, rate_b - low_b)
    return difference, low, high


def _wilson(hits: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A rate and the ends of Wilson's score interval."""
    z = stats.norm.ppf(0.5 + _CONFIDENCE / 2)
    rate = hits / n
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return rate, centre - half, centre + half
