"""The ``image`` baseline: the image masked to where a filter is active (paper, section 4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable


def mask_images(
    image: np.ndarray, maps: np.ndarray, threshold: np.ndarray
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """Masks an image by each filter's map, enlarged bilinearly and cut at T_f.

    Args:
        image: (S, S, 3) uint8.
        maps: (F, H, W) activation maps.
        threshold: (F,) T_f.

    Returns:
        A function from rows (R,) of ``maps`` to their masked images (R, S, S, 3) uint8, black
        outside the mask; and the rows whose mask is not empty.
    """
    side = image.shape[0]

    def mask(row: int) -> np.ndarray:
        enlarged = Image.fromarray(maps[row].astype(np.float32)).resize(
            (side, side), Image.Resampling.BILINEAR
        )
        return np.asarray(np.asarray(enlarged) > threshold[row])  # (S, S)

    def masked(rows: np.ndarray) -> np.ndarray:
        return np.stack([image * mask(row)[:, :, None] for row in rows.tolist()])

    kept = [row for row in range(len(maps)) if mask(row).any()]
    return masked, np.array(kept, dtype=np.int64)
