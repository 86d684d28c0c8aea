"""Masks that follow an image through resize, crop and EXIF orientation.

A pixel of the square that a CNN sees belongs to a region where the pixel's centre does: the same
rule for boxes, polygons, run lengths and label images. The square is that of
``lavise.images.prepare``: shorter side to S, centre square, upright.

Annotations are drawn in a frame of their own, and EXIF orientation makes three cases of it:

* The frame has the shape of the pixels as stored: COCO's API, torchvision and most annotation
  files do not look at EXIF. The mask is then turned upright together with the image.
* The frame has the shape of the upright image only (the sides are swapped): the annotation tool
  showed it upright. The mask is right as it is.
* Both shapes are the same (a square, or a flip): the stored pixels are taken, as in the first.

A frame may be larger or smaller than the image (a copy scaled down, label images at half size);
its proportions must be the image's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import ExifTags
from PIL.TiffImagePlugin import TiffImageFile

from lavise.errors import ImageError
from lavise.image_header import open_header
from lavise.images import prepare

if TYPE_CHECKING:
    from collections.abc import Callable

_UPRIGHT: Final[dict[int, Callable[[np.ndarray], np.ndarray]]] = {
    2: np.fliplr,
    3: lambda mask: np.rot90(mask, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda mask: np.rot90(mask, -1),
    7: lambda mask: np.rot90(mask, 2).T,
    8: np.rot90,
}
"""What makes a stored mask upright, by EXIF orientation."""
_SIDES_SWAPPED: Final = frozenset({5, 6, 7, 8})


@dataclass(frozen=True)
class Square:
    """The square that a CNN sees, in the frame of the annotations.

    Attributes:
        size: S, its side in the CNN's pixels.
        width: Of the frame.
        height: Of the frame.
        orientation: EXIF orientation to turn masks by; 1 for none.
    """

    size: int
    width: float
    height: float
    orientation: int = 1

    @property
    def _centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the pixels, in the frame: x (S,) and y (S,)."""
        side = min(self.width, self.height)
        along = (np.arange(self.size) + 0.5) * (side / self.size)
        return along + (self.width - side) / 2, along + (self.height - side) / 2

    def box(self, x: float, y: float, width: float, height: float) -> np.ndarray:
        """The mask of a box, clipped to the image.

        Args:
            x: Left edge, in the frame's pixels.
            y: Top edge.
            width: To the right.
            height: Downwards.

        Returns:
            (S, S) bool, writable.
        """
        xs, ys = self._centres
        across, down = (xs >= x) & (xs < x + width), (ys >= y) & (ys < y + height)
        return self._turned(down[:, None] & across)

    def sample(self, labels: np.ndarray) -> np.ndarray:
        """The labels under the pixels' centres.

        Args:
            labels: (h, w) of any type, covering the whole frame at any resolution.

        Returns:
            (S, S) of the same type, writable.
        """
        height, width = labels.shape
        xs, ys = self._centres
        columns = np.minimum((xs * width / self.width).astype(np.intp), width - 1)
        rows = np.minimum((ys * height / self.height).astype(np.intp), height - 1)
        return self._turned(labels[rows[:, None], columns])

    def whole(self) -> np.ndarray:
        """The mask of the whole image: (S, S) bool."""
        return np.ones((self.size, self.size), dtype=bool)

    def _turned(self, mask: np.ndarray) -> np.ndarray:
        turn = _UPRIGHT.get(self.orientation)
        return mask if turn is None else np.ascontiguousarray(turn(mask))


def prepare_annotated(
    data: bytes, size: int, *, name: str, frame: tuple[int, int] | None = None
) -> tuple[np.ndarray, Square]:
    """Prepares an image for a CNN, and says where its square lies among the annotations.

    Args:
        data: The encoded image.
        size: Side S of the square.
        name: What to call the image in errors.
        frame: Width and height of the image as the annotations have it; the pixels as stored
            when None.

    Returns:
        (S, S, 3) uint8, and the square.

    Raises:
        ImageError: It cannot be decoded, or its proportions are not the frame's.
    """
    pixels = prepare(data, size, name=name)
    width, height, orientation = _stored(data, name)
    if frame is None or _same_proportions(frame, (width, height)):
        return pixels, Square(size, *(frame or (width, height)), orientation)
    if orientation in _SIDES_SWAPPED and _same_proportions(frame, (height, width)):
        return pixels, Square(size, *frame)
    raise ImageError(
        f"{name}: {width} x {height} pixels, but its annotations are drawn on {frame[0]} x "
        f"{frame[1]}: another image, or a crop of it; accepted: the annotated image at any scale",
        field=name,
    )


def _stored(data: bytes, name: str) -> tuple[int, int, int]:
    """Width, height and EXIF orientation, as the header has them."""
    image, _ = open_header(data, name=name)
    if isinstance(image, TiffImageFile):  # Pillow turns TIFF itself, and swaps the sides it gives
        return *image.size, 1
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - any damage in the EXIF block counts as upright
        orientation = 1
    return *image.size, orientation


def _same_proportions(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one is the other scaled, each side rounded to a whole pixel."""
    return abs(one[0] * other[1] - one[1] * other[0]) <= max(sum(one), sum(other))
