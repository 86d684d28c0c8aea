"""Network Dissection's own labels: each filter's category of best IoU over a whole dataset.

IoU_{f,c} = sum_x |M_f(x) and L_c(x)| / sum_x |M_f(x) or L_c(x)| over all images x, M_f the enlarged
map cut at T_f and L_c all pixels of category c (Bau et al., CVPR 2017, equation 1). Sums are kept
for two halves of the images apart, so that a label can be judged on images that did not make it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lavise.evaluate.overlap import Overlap


class Dissection:
    """Sums of areas and intersections. C filters, K categories; memory is 16 CK bytes.

    Args:
        channels: C.
        categories: K.
    """

    def __init__(self, channels: int, categories: int) -> None:
        self._both = np.zeros((2, channels, categories))
        self._active = np.zeros((2, channels))
        self._annotated = np.zeros((2, categories))

    def update(self, half: int, found: Overlap, categories: np.ndarray) -> None:
        """Takes in one image.

        Args:
            half: 0 or 1, which half the image belongs to.
            found: Its overlap with one mask for each category that is on it.
            categories: (M,) whose masks these are, each at most once.
        """
        self._active[half, found.filters] += found.area
        self._annotated[half, categories] += found.masks
        self._both[half, found.filters[:, None], categories] += found.both

    def iou(self, *halves: int) -> np.ndarray:
        """IoU of filters and categories.

        Args:
            halves: Which images count: one half or both.

        Returns:
            (C, K); 0 where filter and category are both nowhere.
        """
        some = list(halves)
        both = self._both[some].sum(axis=0)
        active = self._active[some].sum(axis=0)[:, None]
        annotated = self._annotated[some].sum(axis=0)[None, :]
        return np.asarray(both / np.maximum(active + annotated - both, 1.0))


def best_categories(iou: np.ndarray, k: int) -> np.ndarray:
    """Each filter's categories by IoU.

    Args:
        iou: (C, K).
        k: How many.

    Returns:
        (C, k) positions, best first; -1 where no further category overlaps the filter at all.
    """
    best = np.argsort(-iou, axis=1, kind="stable")[:, :k]
    found = np.where(np.take_along_axis(iou, best, axis=1) > 0, best, -1)
    padding = np.full((len(iou), k - found.shape[1]), -1)
    return np.concatenate([found, padding], axis=1)
