"""What evaluation counts, in plain loops and double precision, straight from the papers."""

import math
from collections.abc import Sequence

import numpy as np


def enlarged(one: np.ndarray, side: int) -> np.ndarray:
    """(H, W) to (side, side): bilinear, pixel centres at halves, edges held."""
    height, width = one.shape
    out = np.zeros((side, side))
    for i in range(side):
        for j in range(side):
            y = min(max((i + 0.5) * height / side - 0.5, 0.0), height - 1.0)
            x = min(max((j + 0.5) * width / side - 0.5, 0.0), width - 1.0)
            top, left = int(y), int(x)
            below, beside = min(top + 1, height - 1), min(left + 1, width - 1)
            b, r = y - top, x - left
            out[i, j] = (
                (1 - b) * (1 - r) * float(one[top, left])
                + (1 - b) * r * float(one[top, beside])
                + b * (1 - r) * float(one[below, left])
                + b * r * float(one[below, beside])
            )
    return out


def iou(a: np.ndarray, b: np.ndarray) -> float:
    both = sum(bool(x) and bool(y) for x, y in zip(a.ravel(), b.ravel(), strict=True))
    either = sum(bool(x) or bool(y) for x, y in zip(a.ravel(), b.ravel(), strict=True))
    return both / either if either else 0.0


def dissected(active: Sequence[np.ndarray], annotated: Sequence[np.ndarray]) -> float:
    """sum_x |M(x) and L(x)| / sum_x |M(x) or L(x)| over images, of one filter and category."""
    both = either = 0
    for one, other in zip(active, annotated, strict=True):
        for x, y in zip(one.ravel(), other.ravel(), strict=True):
            both += bool(x) and bool(y)
            either += bool(x) or bool(y)
    return both / either if either else 0.0


def point_biserial(activation: Sequence[float], label: Sequence[bool]) -> float:
    """(M1 - M0) / s_n * sqrt(n1 n0 / n^2)."""
    with_label = [a for a, y in zip(activation, label, strict=True) if y]
    without = [a for a, y in zip(activation, label, strict=True) if not y]
    n = len(activation)
    mean = sum(activation) / n
    s_n = math.sqrt(sum((a - mean) ** 2 for a in activation) / n)
    gap = sum(with_label) / len(with_label) - sum(without) / len(without)
    return gap / s_n * math.sqrt(len(with_label) * len(without) / n**2)


def f1_at(activation: Sequence[float], label: Sequence[bool], threshold: float) -> float:
    hits = sum(a >= threshold and y for a, y in zip(activation, label, strict=True))
    called = sum(a >= threshold for a in activation)
    if not hits:
        return 0.0
    precision, recall = hits / called, hits / sum(label)
    return 2 * precision * recall / (precision + recall)


def soft_wpmi(
    activation: np.ndarray, similarity: np.ndarray, top: int, sharpness: float, weight: float
) -> np.ndarray:
    n, C = activation.shape
    K = similarity.shape[1]
    given = np.zeros((n, K))
    for i in range(n):
        raised = [math.exp(sharpness * float(s)) for s in similarity[i]]
        given[i] = [r / sum(raised) for r in raised]
    log_given = np.zeros((C, K))
    top = min(top, n)
    for f in range(C):
        order = sorted(range(n), key=lambda i: -float(activation[i, f]))[:top]
        for k in range(K):
            total = 0.0
            for place, i in enumerate(order):
                chance = 0.998 - place / top * (0.998 - 0.97)
                total += math.log(1 + chance * (given[i, k] - 1) + 1e-7)
            log_given[f, k] = total
    score = np.zeros((C, K))
    for k in range(K):
        prior = math.log(sum(math.exp(log_given[f, k]) for f in range(C)) / C)
        for f in range(C):
            score[f, k] = log_given[f, k] - weight * prior
    return score
