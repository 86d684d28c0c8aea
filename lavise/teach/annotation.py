"""Which images and categories count as annotated: the paper's study of annotation rates.

The paper teaches with 10, 30, 50 and 70 % of the images annotated, and with 30 % of the categories
never taught (Yang, Kim and Joo, CVPR 2022, section 4). Teaching asks here what to keep, and
evaluation asks here again what had been held out.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import numpy as np

from lavise.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

RATES: Final = (0.1, 0.3, 0.5, 0.7)
"""Annotation rates of the paper."""


def kept_images(n_images: int, rate: float, *, seed: int) -> np.ndarray:
    """Which images keep their annotation.

    Args:
        n_images: Of the dataset.
        rate: Share that keeps it, 0 to 1. What a lower rate keeps, a higher one keeps as well, so
            that rates differ by what is added and by nothing else.
        seed: Of the draw.

    Returns:
        (n_images,) bool, ``rate`` of them true, rounded.

    Raises:
        RequestError: The rate is outside 0 to 1.
    """
    check_share(rate, "annotation_rate")
    kept = np.zeros(n_images, dtype=bool)
    order = np.random.default_rng(seed).permutation(n_images)
    kept[order[: round(rate * n_images)]] = True
    return kept


def held_out_categories(categories: Iterable[str], share: float, *, seed: int) -> frozenset[str]:
    """Which categories are never to be taught.

    Args:
        categories: Names; their order does not matter.
        share: Of them to hold out, 0 to 1; what a smaller share holds out, a larger one does too.
        seed: Of the draw.

    Returns:
        ``share`` of the names, rounded.

    Raises:
        RequestError: The share is outside 0 to 1.
    """
    check_share(share, "unseen")
    # By hash, not by position: another order, or another reader of the data, draws the same names.
    names = sorted(set(categories), key=lambda name: _hash(name, seed))
    return frozenset(names[: round(share * len(names))])


def _hash(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogatepass")).digest()


def check_share(share: float, field: str) -> None:
    """Refuses what is no share.

    Args:
        share: From 0 to 1.
        field: What it is called.

    Raises:
        RequestError: It is outside 0 to 1.
    """
    if not 0 <= share <= 1:  # false for NaN too
        raise RequestError(f"{field} is {share}; accepted: a share from 0 to 1", field=field)
