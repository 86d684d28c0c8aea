"""Quantiles of a stream, for many filters at once, with a stated error and fixed memory.

A histogram whose bins are the leading bits of the float itself: 64 bins to each power of two, as
HdrHistogram does (https://hdrhistogram.org). A value's bin is a shift of its bit pattern, which is
why a whole feature map costs a fraction of what a comparison sketch (KLL, t-digest) asks for each
filter; and the error is of the value, not of the rank, so that a threshold at a flat tail stays
exact.
"""

from __future__ import annotations

from typing import Final

import numpy as np

_BITS: Final = 6
_SHIFT: Final = 23 - _BITS
_LOWEST, _HIGHEST = -24, 24  # powers of two that are told apart
_BASE: Final = (127 + _LOWEST) << _BITS
_BINS: Final = ((_HIGHEST - _LOWEST) << _BITS) + 1

RELATIVE_ERROR: Final = 2.0 ** -(_BITS + 1)
"""Of a quantile between 2^-24 and 2^24: half a bin, 0.8 %."""


class CellHistogram:
    """Counts the cell values of C filters.

    Args:
        channels: C. Memory is C x 3,073 counts of 8 bytes, whatever is counted.
    """

    def __init__(self, channels: int) -> None:
        self._counts = np.full((channels, _BINS), 0, dtype=np.int64)  # in huge pages
        self._highest = np.zeros(channels, dtype=np.float32)
        self._n_highest = np.zeros(channels, dtype=np.int64)

    def update(self, cells: np.ndarray) -> None:
        """Counts a batch.

        Args:
            cells: (B, C, N) float32, finite; values of 0 and less, and up to 2^-24, count as 0.
        """
        n_images, channels, n_cells = cells.shape
        values = np.ascontiguousarray(cells, dtype=np.float32)
        # Behind a ReLU most cells are 0, which need no bin of their own.
        above = np.flatnonzero(values >= 2.0**_LOWEST)
        channel = above // n_cells % channels
        bins = values.ravel()[above].view(np.int32) >> _SHIFT
        bins -= _BASE - 1
        np.minimum(bins, _BINS - 1, out=bins)
        # Flat, because it is several times faster than with one index for each dimension.
        np.add.at(self._counts.ravel(), channel * _BINS + bins, np.ones_like(channel))
        self._counts[:, 0] += n_images * n_cells - np.bincount(channel, minlength=channels)
        highest = np.maximum(self._highest, values.max(axis=(0, 2)))
        self._n_highest[highest > self._highest] = 0
        self._n_highest += (values == highest[:, None]).sum(axis=(0, 2))
        self._highest = highest

    def quantile(self, q: float) -> np.ndarray:
        """The value that a share of at least q of the cells does not exceed.

        Args:
            q: 0 (the least) to 1 (the largest).

        Returns:
            (C,) float32: 0 where the quantile is not positive; never above the largest value.
        """
        total = self._counts.sum(axis=1)
        rank = np.maximum(np.ceil(q * total), 1)
        place = (np.cumsum(self._counts, axis=1) >= rank[:, None]).argmax(axis=1)
        middle = ((place + _BASE - 1) << _SHIFT) + (1 << (_SHIFT - 1))
        value = np.minimum(middle.astype(np.int32).view(np.float32), self._highest)
        # The largest value is known exactly, and how often it came: ceilings such as 6 stay 6.
        value = np.where(rank > total - self._n_highest, self._highest, value)
        return np.asarray(np.where(place == 0, 0.0, value), dtype=np.float32)
