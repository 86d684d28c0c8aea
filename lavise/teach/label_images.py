"""Label images: what each pixel is, as a number, in a PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lavise.errors import ImageError
from lavise.image_header import image_errors, open_header
from lavise.teach.image_folder import read_image

if TYPE_CHECKING:
    from pathlib import Path


def read_indices(file: Path) -> np.ndarray:
    """A label image whose palette indices, or grey levels, are the numbers (Pascal VOC).

    Args:
        file: PNG.

    Returns:
        (h, w) uint8.

    Raises:
        ImageError: It cannot be read, or has colours instead.
    """
    return _read(file, ("P", "L"), "palette indices or grey levels of 8 bits")


def read_red_green(file: Path) -> np.ndarray:
    """A label image that holds numbers as red + 256·green (Broden).

    Args:
        file: PNG.

    Returns:
        (h, w) uint16.

    Raises:
        ImageError: It cannot be read, or has no colours.
    """
    rgb = _read(file, ("RGB",), "RGB of 8 bits").astype(np.uint16)
    return rgb[..., 0] + (rgb[..., 1] << 8)


def _read(file: Path, modes: tuple[str, ...], accepted: str) -> np.ndarray:
    image, kind = open_header(read_image(file), name=str(file))
    if image.mode not in modes:
        raise ImageError(
            f"{file}: a label image of mode {image.mode}; accepted: {accepted}", field=str(file)
        )
    with image_errors(str(file), kind):
        return np.array(image)
