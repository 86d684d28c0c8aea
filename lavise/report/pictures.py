"""Pictures of the page: what a CNN saw as a small JPEG, and a heat map to lay over it."""

from __future__ import annotations

import base64
import io
import math
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from lavise.errors import ImageError
from lavise.images import prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

PICTURE_SIDE: Final = 224
_OVERLAY_SIDE: Final = 56  # eight times a usual map; the browser smooths the rest
_MAX_MAP_SIDE: Final = 512
_JPEG_QUALITY: Final = 84
_MOST_OPAQUE: Final = 0.82
_MAGMA: Final = np.array(
    [
        (0, 0, 4),
        (44, 17, 95),
        (114, 31, 129),
        (183, 55, 121),
        (241, 96, 93),
        (254, 176, 120),
        (252, 253, 191),
    ],
    np.float64,
)
"""Magma (Smith and van der Walt, 2015; CC0) at seven even steps: even steps look even."""


def picture_uri(data: bytes, *, name: str) -> str:
    """An image as a data URI.

    It is decoded and written again, so that the page holds a bounded JPEG without metadata,
    whatever came in.

    Args:
        data: The encoded image.
        name: What to call it in errors.

    Returns:
        A ``data:image/jpeg`` URI of 224 x 224 pixels: the centre square.

    Raises:
        ImageError: Not an accepted image, damaged, or over a limit; `field` is `name`.
    """
    out = io.BytesIO()
    Image.fromarray(prepare(data, PICTURE_SIDE, name=name)).save(out, "JPEG", quality=_JPEG_QUALITY)
    return _uri("image/jpeg", out.getvalue())


def overlay_uri(heat: NDArray[np.generic], *, strength: float, name: str) -> str:
    """A heat map as a transparent picture to lay over an image.

    Args:
        heat: (H, W), numbers: how active the filter is at each place. Negative is inactive.
        strength: How active it is at most, against the strongest image shown, 0 to 1.
        name: What to call it in errors.

    Returns:
        A ``data:image/png`` URI: magma colours, the more opaque the more active.

    Raises:
        ImageError: Not a matrix of numbers, empty, or larger than 512 x 512.
    """
    pixels = heat_colours(heat, strength=strength, name=name)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return _uri("image/png", out.getvalue())


def heat_colours(heat: NDArray[np.generic], *, strength: float, name: str) -> NDArray[np.uint8]:
    """The pixels of `overlay_uri`: (56, 56, 4), uint8 RGBA."""
    shape = np.shape(heat)
    if len(shape) != 2 or not 0 < min(shape) <= max(shape) <= _MAX_MAP_SIDE:
        raise ImageError(
            f"The heat map of {name} has the shape {shape}; give a matrix (H, W) of 1 to"
            f" {_MAX_MAP_SIDE} rows and columns.",
            field=name,
        )
    finite = np.nan_to_num(np.asarray(heat, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    positive = np.maximum(finite, 0)
    peak = float(positive.max())
    if peak > 0:
        positive *= (min(max(strength, 0.0), 1.0) if math.isfinite(strength) else 0.0) / peak
    smooth = Image.fromarray(positive).resize(
        (_OVERLAY_SIDE, _OVERLAY_SIDE), Image.Resampling.BICUBIC
    )
    # Bicubic overshoots a little beside steep edges.
    activity = np.clip(np.asarray(smooth, np.float64), 0, 1)
    steps = np.linspace(0, 1, len(_MAGMA))
    channels = [np.interp(activity, steps, _MAGMA[:, channel]) for channel in range(3)]
    channels.append(255 * _MOST_OPAQUE * np.sqrt(activity) * _ramp(activity))
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def _ramp(activity: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 to 1, smooth: weak activity must not veil the picture."""
    clipped = np.clip(activity / 0.6, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
