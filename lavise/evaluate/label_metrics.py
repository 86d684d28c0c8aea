"""How well activations follow a label: AUPRC, F1, correlation, AUROC, for many filters at once.

Each takes (F, n) activations of F filters on n images and (F, n) labels, whether the image has
what the filter is said to stand for, and gives (F,) numbers: NaN where an image with the label, or
one without, is missing, or where nothing varies. Tied activations count as one step.
"""

from __future__ import annotations

import numpy as np
from scipy import stats


def average_precision(activation: np.ndarray, label: np.ndarray) -> np.ndarray:
    """AUPRC as average precision: sum over steps of (R_k - R_{k-1}) P_k.

    Args:
        activation: (F, n).
        label: (F, n) bool.

    Returns:
        (F,) float64.
    """
    _, ordered, right, called = _steps(activation, label)
    total = (ordered * right / called).sum(axis=1)
    return _where_defined(total / np.maximum(label.sum(axis=1), 1), label)


def best_f1(
    chosen_on: tuple[np.ndarray, np.ndarray], measured_on: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """F1 of calling an image by its activation, the threshold chosen on other images.

    Args:
        chosen_on: Activation (F, m) and label (F, m) that the best threshold is taken from.
        measured_on: Activation (F, n) and label (F, n) that F1 is reported on.

    Returns:
        (F,) float64.
    """
    activation, label = chosen_on
    values, _, right, called = _steps(activation, label)
    f1 = 2 * right / (called + label.sum(axis=1, keepdims=True))
    best = f1.argmax(axis=1)[:, None]
    threshold = np.take_along_axis(values, best, axis=1)  # (F, 1)
    measured, truth = measured_on
    says = measured >= threshold
    hits = (says & truth).sum(axis=1)
    either = says.sum(axis=1) + truth.sum(axis=1)
    found = _where_defined(2 * hits / np.maximum(either, 1), truth)
    return np.where(np.isnan(_where_defined(found, label)), np.nan, found)


def correlation(activation: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Point-biserial correlation: Pearson's of activation and label.

    Args:
        activation: (F, n).
        label: (F, n) bool.

    Returns:
        (F,) float64, -1 to 1.
    """
    a = activation.astype(np.float64)
    a -= a.mean(axis=1, keepdims=True)
    y = label - label.mean(axis=1, keepdims=True)
    scale = np.linalg.norm(a, axis=1) * np.linalg.norm(y, axis=1)
    constant = activation.max(axis=1) == activation.min(axis=1)
    found = (a * y).sum(axis=1) / np.maximum(scale, 1e-300)
    return np.where(constant, np.nan, _where_defined(np.clip(found, -1, 1), label))


def auroc(activation: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The chance that an image with the label excites the filter more; ties count half.

    Args:
        activation: (F, n).
        label: (F, n) bool.

    Returns:
        (F,) float64.
    """
    rank = stats.rankdata(activation, axis=1)
    positives = label.sum(axis=1)
    negatives = label.shape[1] - positives
    above = (rank * label).sum(axis=1) - positives * (positives + 1) / 2
    return _where_defined(above / np.maximum(positives * negatives, 1), label)


def _steps(activation: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, ...]:
    """At each place of the order by activation, what calling it and all its ties gives.

    Returns:
        (F, n) each: activation, label, images called rightly, images called.
    """
    order = np.argsort(-activation, axis=1, kind="stable")
    values = np.take_along_axis(activation, order, axis=1)
    ordered = np.take_along_axis(label, order, axis=1)
    n = activation.shape[1]
    last = np.ones(activation.shape, dtype=bool)
    last[:, :-1] = values[:, 1:] != values[:, :-1]
    # The last place of a run of ties, carried back to all of the run.
    place = np.where(last, np.arange(n), n - 1)
    end = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]
    right = np.take_along_axis(np.cumsum(ordered, axis=1), end, axis=1)
    return values, ordered, right, end + 1


def _where_defined(values: np.ndarray, label: np.ndarray) -> np.ndarray:
    positives = label.sum(axis=1)
    return np.where((positives > 0) & (positives < label.shape[1]), values, np.nan)
