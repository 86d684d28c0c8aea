"""Labels made wrong on purpose: a metric worth its name falls when they are.

The missing-labels check takes half of the labels away at random; the extra-labels check adds as
many wrong ones at random (Oikarinen, Yan and Weng, "Evaluating Neuron Explanations: A Unified
Framework with Sanity Checks", ICML 2025, section 4, https://arxiv.org/abs/2506.05774). Recall fails
the first, AUROC nearly so: neither notices labels that are not there.
"""

from __future__ import annotations

import numpy as np


def without_half(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Takes half of each row's labels away, rounded up: of one label alone nothing is left.

    Args:
        label: (F, n) bool.
        rng: Draws which.

    Returns:
        (F, n) bool.
    """
    return np.asarray(label & ~_first(label, (label.sum(axis=1) + 1) // 2, rng))


def with_as_many_wrong(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adds as many labels to each row as it has, where there was none.

    Args:
        label: (F, n) bool.
        rng: Draws where.

    Returns:
        (F, n) bool; all true where more than half was.
    """
    return np.asarray(label | _first(~label, label.sum(axis=1), rng))


def _first(among: np.ndarray, count: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(F, n) bool: ``count`` (F,) of each row's true places, by lot."""
    lot = np.where(among, rng.random(among.shape), 2.0)
    rank = np.argsort(np.argsort(lot, axis=1), axis=1)
    return among & (rank < count[:, None])


def got_worse(before: np.ndarray, after: np.ndarray) -> float | None:
    """The share of filters whose number fell.

    Args:
        before: (F,) with the labels as they are; NaN where undefined.
        after: (F,) with labels made wrong; likewise.

    Returns:
        0 to 1 of those that both define; None where there is none.
    """
    defined = ~(np.isnan(before) | np.isnan(after))
    return float(np.mean(after[defined] < before[defined])) if defined.any() else None
