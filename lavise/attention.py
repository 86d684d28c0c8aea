"""Filter attention: from a feature map to the visual feature that a filter attends to.

v = sum_x w_f(x)·A(:, x): the whole feature map, weighted by where filter f is active. The matched
projection, w_f = A_f+ / sum A_f+, is the default: teaching pools features under a mask by the
mask's mean, and a filter's positive part is a soft mask. lavise.words_graph holds the same
equations as graphs, with the paper's and the published code's formulas; here is what teaching and
describing need on the host.
"""

from __future__ import annotations

import numpy as np


def attention_rows(maps: np.ndarray) -> np.ndarray:
    """The matched projection's weights over cells.

    Args:
        maps: (..., N) activation maps of filters.

    Returns:
        (..., N), each row summing to 1, or to 0 where the map is nowhere positive.
    """
    positive = np.maximum(maps, 0.0)
    area = positive.sum(axis=-1, keepdims=True)
    return np.asarray(positive / np.maximum(area, 1e-12))


def pool_under_mask(feature_map: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """The mean feature under a mask: what the mapper is taught on.

    Args:
        feature_map: (C, H, W).
        mask: (S, S) bool, the region in the input image; S a multiple of H and W or not.

    Returns:
        (C,), or None where the mask is empty.
    """
    _, height, width = feature_map.shape
    weights = area_weights(mask, height, width)
    total = weights.sum()
    if total <= 0:
        return None
    flat = feature_map.reshape(feature_map.shape[0], -1)
    return np.asarray(flat @ (weights.ravel() / total))


def area_weights(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """How much of each cell a mask covers.

    Args:
        mask: (S, S) bool.
        height: H of the feature map.
        width: W of the feature map.

    Returns:
        (H, W) float32 in 0..1.
    """
    rows = np.linspace(0, mask.shape[0], height + 1).round().astype(int)
    columns = np.linspace(0, mask.shape[1], width + 1).round().astype(int)
    sums = np.add.reduceat(mask.astype(np.float32), rows[:-1], axis=0)
    sums = np.add.reduceat(sums, columns[:-1], axis=1)
    areas = np.diff(rows)[:, None] * np.diff(columns)[None, :]
    return np.asarray(sums / np.maximum(areas, 1))
