"""Where filters are active, laid over what is annotated: areas, intersections, IoU.

A map is enlarged bilinearly to the image's size and cut at the filter's threshold T_f (Bau et al.,
"Network Dissection", CVPR 2017, section 2.2; Yang et al., CVPR 2022, section 4.1). Only filters
whose map exceeds T_f anywhere are enlarged: enlarging adds no peak.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

_FILTERS_AT_ONCE: Final = 128
"""Enlarged maps held at once: 26 MB at 224 x 224 pixels."""
_ROUNDING: Final = 1e-5
"""Relative; what interpolation between two values at the ceiling may lose."""


@dataclass(frozen=True)
class Overlap:
    """What active areas share with masks on one image. F filters, M masks; all in pixels.

    Attributes:
        filters: (F,) those that are active at all.
        area: (F,) of their active areas; possibly 0, where enlarging lost the peak.
        masks: (M,) areas of the masks.
        both: (F, M) intersections.
    """

    filters: np.ndarray
    area: np.ndarray
    masks: np.ndarray
    both: np.ndarray

    def iou(self) -> np.ndarray:
        """(F, M) intersection over union; 0 where both are empty."""
        union = self.area[:, None] + self.masks[None, :] - self.both
        return np.asarray(self.both / np.maximum(union, 1.0))

    def of(self, some: np.ndarray) -> Overlap:
        """The same with some of the masks, by position."""
        return Overlap(self.filters, self.area, self.masks[some], self.both[:, some])


def cut_at(threshold: np.ndarray, ceiling: float | None) -> np.ndarray:
    """The values that count as active when exceeded.

    Args:
        threshold: T_f.
        ceiling: Where the layer saturates, or None. Nothing exceeds a threshold at the ceiling, so
            reaching it counts there.

    Returns:
        float32 of the same shape.
    """
    cut = np.asarray(threshold, dtype=np.float32)
    return cut if ceiling is None else np.minimum(cut, np.float32(ceiling * (1 - _ROUNDING)))


def overlap(maps: np.ndarray, cut: np.ndarray, masks: np.ndarray) -> Overlap:
    """Lays the active areas of a layer's filters over masks.

    Args:
        maps: (C, H, W) float32, finite.
        cut: (C,), see cut_at().
        masks: (M, S, S) bool.

    Returns:
        Their overlap.
    """
    side = masks.shape[1]
    filters = np.flatnonzero(maps.max(axis=(1, 2)) > cut)
    flat = masks.reshape(len(masks), side * side).astype(np.float32)
    area = np.zeros(filters.size)
    both = np.zeros((filters.size, len(masks)))
    for start in range(0, filters.size, _FILTERS_AT_ONCE):
        some = filters[start : start + _FILTERS_AT_ONCE]
        active = (enlarge(maps[some], side) > cut[some, None, None]).reshape(some.size, -1)
        rows = slice(start, start + some.size)
        area[rows] = active.sum(axis=1)
        # Counts up to 2^24 pixels are exact in float32.
        both[rows] = active.astype(np.float32) @ flat.T
    return Overlap(filters, area, flat.sum(axis=1, dtype=np.float64), both)


def enlarge(maps: np.ndarray, side: int) -> np.ndarray:
    """Enlarges maps bilinearly, pixel centres at halves, constant beyond the outer centres.

    Args:
        maps: (F, H, W) float32.
        side: S, at least H and W.

    Returns:
        (F, S, S) float32.
    """
    _, height, width = maps.shape
    rows, columns = _weights(height, side), _weights(width, side)
    return np.asarray(rows @ (maps @ columns.T))  # (S, H) x ((F, H, W) x (W, S))


@cache
def _weights(cells: int, side: int) -> np.ndarray:
    """(side, cells) float32: how much of each cell a pixel takes; rows sum to 1."""
    place = np.clip((np.arange(side) + 0.5) * cells / side - 0.5, 0, cells - 1)
    low = np.minimum(place.astype(int), max(cells - 2, 0))
    part = place - low
    weights = np.zeros((side, cells), dtype=np.float32)
    weights[np.arange(side), low] = 1 - part
    weights[np.arange(side), np.minimum(low + 1, cells - 1)] += part
    return weights
