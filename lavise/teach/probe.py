"""The CNN's head, asked of a layer that does not feed it.

What the head says of an image is a soft label that costs nothing, on any image without annotation.
The logits are fitted by ridge regression on the layer's mean feature of the same image:

    W = (Sigma + lambda·tr(Sigma)/C·I)^-1 · Cov(v, logits),    b = mean(logits) - W^T·mean(v),

a linear probe (Alain and Bengio, 2017, https://arxiv.org/abs/1610.01644) of the head instead of
the annotation. Every logit teaches, also those of classes that no image shows; cross-entropy with
the head's posterior as soft label (Hinton et al., 2015) teaches little of them, and gave half the
agreement with the head on photographs. docs/method.md has the numbers, and the other regions that
were tried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from lavise.errors import DatasetError
from lavise.teach.own_classes import Head

if TYPE_CHECKING:
    from lavise.teach.shards import Rows

_RIDGE: Final = 0.1
_FEWEST_IMAGES: Final = 16
_AT_ONCE: Final = 4096
_HELD_OUT: Final = 10
"""One image in so many only measures."""


def probe_head(images: Rows, logits: Rows) -> tuple[Head, float]:
    """Fits a linear classifier on a layer's mean feature to what the head says.

    Args:
        images: (m, C) the layer's mean feature of each image.
        logits: (m, K) what the head says of it.

    Returns:
        The classifier, and the share of held-out images where its best class is the head's.

    Raises:
        DatasetError: There are too few images.
    """
    m, channels = images.shape
    if m < _FEWEST_IMAGES:
        raise DatasetError(
            f"own-classes needs at least {_FEWEST_IMAGES} images to learn what the classifier "
            f"says, and found {m}; name a folder of them: own-classes:DIR, or add the dataset demo",
            field="dataset",
        )
    n = 0
    sum_v, sum_l = np.zeros(channels), np.zeros(logits.shape[1])
    vv, vl = np.zeros((channels, channels)), np.zeros((channels, logits.shape[1]))
    for start in range(0, m, _AT_ONCE):
        fits = np.arange(start, min(start + _AT_ONCE, m)) % _HELD_OUT != 0
        v = images[start : start + _AT_ONCE][fits].astype(np.float64)
        # Centred: softmax does not see what all logits of an image share.
        of_head = logits[start : start + _AT_ONCE][fits].astype(np.float64)
        of_head -= of_head.mean(axis=1, keepdims=True)
        n += len(v)
        sum_v, sum_l = sum_v + v.sum(axis=0), sum_l + of_head.sum(axis=0)
        vv, vl = vv + v.T @ v, vl + v.T @ of_head
    mean_v, mean_l = sum_v / n, sum_l / n
    covariance = vv / n - np.outer(mean_v, mean_v)
    ridge = _RIDGE * max(float(np.trace(covariance)), 1e-12) / channels
    W = np.linalg.solve(
        covariance + ridge * np.eye(channels), vl / n - np.outer(mean_v, mean_l)
    )  # (C, K)
    b = mean_l - mean_v @ W
    head = Head(W.T.astype(np.float32), b.astype(np.float32), probed=True)
    return head, _agreement(head, images, logits)


def _agreement(head: Head, images: Rows, logits: Rows) -> float:
    held_out = np.arange(0, len(images), _HELD_OUT)[:_AT_ONCE]
    said = images[held_out] @ head.W.T + head.b
    return float(np.mean(said.argmax(axis=1) == logits[held_out].argmax(axis=1)))
