"""Judges the label that each filter has: does the filter fire where the label is?

What is chosen from labels (Network Dissection's label, F1's threshold) is chosen on half 0 of the
images; every score is measured on half 1. Both labels of a filter are scored on the same images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from lavise.evaluate.label_metrics import auroc, average_precision, best_f1, correlation
from lavise.evaluate.sanity import with_as_many_wrong, without_half

SCORES: Final = ("auprc", "f1", "correlation", "auroc")
_FILTERS_AT_ONCE: Final = 64


@dataclass(frozen=True)
class Scores:
    """Scores of a layer's filters with their labels.

    Attributes:
        true: Score to (C,), NaN where the filter has no label, or the label no image.
        missing_labels: The same when half of each label's images lose it.
        extra_labels: The same when as many others get it.
    """

    true: dict[str, np.ndarray]
    missing_labels: dict[str, np.ndarray]
    extra_labels: dict[str, np.ndarray]


def score_labels(
    activation: np.ndarray, labels: np.ndarray, half: np.ndarray, label: np.ndarray, *, seed: int
) -> Scores:
    """Scores each filter's label.

    Args:
        activation: (n, C).
        labels: (n, K) bool, what is annotated on each image.
        half: (n,) 0 or 1.
        label: (C,) position of each filter's category; -1 for none.
        seed: Of the labels that are made wrong.

    Returns:
        The scores.
    """
    rng = np.random.default_rng(seed)
    C = activation.shape[1]
    found = Scores(*({name: np.full(C, np.nan) for name in SCORES} for _ in range(3)))
    halves = [np.flatnonzero(half == side) for side in (0, 1)]
    if not all(rows.size for rows in halves):
        return found
    named = np.flatnonzero(label >= 0)
    for start in range(0, named.size, _FILTERS_AT_ONCE):
        some = named[start : start + _FILTERS_AT_ONCE]
        excited = [activation[np.ix_(rows, some)].T for rows in halves]
        truth = [labels[np.ix_(rows, label[some])].T for rows in halves]
        for into, made in (
            (found.true, truth),
            (found.missing_labels, [without_half(one, rng) for one in truth]),
            (found.extra_labels, [with_as_many_wrong(one, rng) for one in truth]),
        ):
            into["auprc"][some] = average_precision(excited[1], made[1])
            into["f1"][some] = best_f1((excited[0], made[0]), (excited[1], made[1]))
            into["correlation"][some] = correlation(excited[1], made[1])
            into["auroc"][some] = auroc(excited[1], made[1])
    return found
