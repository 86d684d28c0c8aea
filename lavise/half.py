"""Half precision, fast: numpy converts value by value, and ten times slower where they are tiny."""

from __future__ import annotations

from typing import Final

import numpy as np

LARGEST: Final = 65504.0
"""The largest half-precision number."""
_SHIFT: Final = np.uint32(13)
"""Bits of the fraction that float32 has and float16 has not."""


def to_half(values: np.ndarray) -> np.ndarray:
    """Rounds to half precision, to nearest; values beyond its range become its largest.

    Args:
        values: float32, finite.

    Returns:
        float16 of the same shape.
    """
    # Scaled by 2^-112, the exponent of a float32 is that of the float16, below its smallest
    # normal number as well: what is left is to cut the fraction, rounding half to even.
    magnitude = np.minimum(np.abs(values), np.float32(LARGEST))
    bits = (magnitude * np.float32(2.0**-112)).view(np.uint32)
    bits += np.uint32(0xFFF) + ((bits >> _SHIFT) & np.uint32(1))
    half = (bits >> _SHIFT).astype(np.uint16)
    half |= np.signbit(values).astype(np.uint16) << np.uint16(15)
    return np.asarray(half.view(np.float16))
