"""Which of many means differ between two groups: the max-T permutation test.

Westfall and Young (1993), *Resampling-Based Multiple Testing*, single-step: labels are shuffled
over all rows, each shuffle leaves the largest absolute difference of any column, and a column's
p-value is the share of shuffles whose largest difference reaches its own. That controls the chance
of even one false column, whatever the columns' correlation. The difference of means is the
statistic, not its studentised form: for words, large effects are what people look for, and
studentising finds them later (docs/method.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lavise.errors import RequestError
from lavise.progress import Track, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHUFFLES_AT_ONCE: Final = 50


@dataclass(frozen=True)
class MaxT:
    """The outcome for V columns.

    Attributes:
        difference: (V,) mean of a minus mean of b.
        p_value: (V,) corrected for all columns.
        critical: A column is significant at the level exactly where its absolute difference
            exceeds this; also the half-width of simultaneous intervals.
        significant: (V,) bool.
    """

    difference: np.ndarray
    p_value: np.ndarray
    critical: float
    significant: np.ndarray


def max_t(
    a: np.ndarray,
    b: np.ndarray,
    *,
    level: float,
    permutations: int,
    seed: int,
    track: Track = silent,
) -> MaxT:
    """Tests every column for a difference of means.

    Args:
        a: (n_a, V), n_a at least 1.
        b: (n_b, V), likewise.
        level: Chance of one or more false columns.
        permutations: How many shuffles.
        seed: Of the shuffles.
        track: Shows progress; what it raises ends the test.

    Returns:
        The outcome.

    Raises:
        RequestError: With so few shuffles nothing could be significant at the level.
    """
    rank = int(level * (permutations + 1) + 1e-9)
    if rank < 1:
        raise RequestError(
            f"{permutations} permutations cannot tell at level {level:g}; accepted: at least "
            f"{int(np.ceil(1 / level)) - 1}",
            field="permutations",
        )
    n_a, n_b = len(a), len(b)
    pooled = np.concatenate([a, b], dtype=np.float32)  # (n, V)
    # Small numbers around zero keep single precision exact enough; differences stay the same.
    pooled -= pooled.mean(axis=0, dtype=np.float64).astype(np.float32)
    difference = pooled[:n_a].mean(axis=0, dtype=np.float64) - pooled[n_a:].mean(
        axis=0, dtype=np.float64
    )
    # The shuffles are single precision; so must be what is compared with them.
    observed = np.abs(_weights(np.arange(n_a)[None], n_a, n_b) @ pooled)[0]
    null = np.concatenate(
        [
            np.abs(_weights(chosen, n_a, n_b) @ pooled).max(axis=1)
            for chosen in track(
                _shuffles(n_a, n_b, permutations, seed),
                "permutations",
                -(-permutations // _SHUFFLES_AT_ONCE),
            )
        ]
    )
    null.sort()
    # A hair of slack counts a shuffle that only differs by rounding as reaching.
    reached = permutations - np.searchsorted(null, observed * (1 - 1e-5), side="left")
    p_value = (reached + 1) / (permutations + 1)
    return MaxT(difference, p_value, float(null[-rank]), p_value <= rank / (permutations + 1))


def _shuffles(n_a: int, n_b: int, permutations: int, seed: int) -> Iterator[np.ndarray]:
    """The rows that each shuffle calls a, some shuffles at a time: (r, n_a)."""
    rng = np.random.default_rng(seed)
    rows = np.arange(n_a + n_b)
    for start in range(0, permutations, _SHUFFLES_AT_ONCE):
        count = min(_SHUFFLES_AT_ONCE, permutations - start)
        yield np.stack([rng.permutation(rows)[:n_a] for _ in range(count)])


def _weights(chosen: np.ndarray, n_a: int, n_b: int) -> np.ndarray:
    """(r, n) weights whose product with the rows is the difference of means."""
    weights = np.full((len(chosen), n_a + n_b), -1 / n_b, dtype=np.float32)
    np.put_along_axis(weights, chosen, np.float32(1 / n_a), axis=1)
    return weights
