"""Rendered objects: drawing one of lavise.demo.renders into a scene."""

import functools
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lavise.demo.renders import open_archive

OPAQUE = 128  # alpha from which a pixel belongs to the object

_SIDES = (0.25, 0.60)  # longer side of an object, in sides of the image
_TURN = 20.0  # degrees either way


@dataclass(frozen=True, eq=False)
class DrawnObject:
    """One object as it goes into a scene: scaled, turned, its colours shifted.

    Attributes:
        category: What it is.
        colours: RGB, w x h pixels.
        alpha: L, as large.
    """

    category: str
    colours: Image.Image
    alpha: Image.Image


def style_categories(style: str) -> tuple[str, ...]:
    """The categories that a style draws, in alphabetical order.

    Raises:
        SpecError: The style is unknown.
    """
    return tuple(open_archive(style).members)


def draw_object(
    rng: np.random.Generator, style: str, category: str, size: int, *, min_area: float
) -> DrawnObject:
    """Draw one of the category's renders for an image of ``size`` pixels a side.

    Args:
        rng: The source of chance.
        style: Whose renders.
        category: One that the style has.
        size: Side of the image in pixels.
        min_area: The least share of the image that the object should cover; thin things are
            drawn larger for it.
    """
    members = open_archive(style).members[category]
    render = _render(style, members[int(rng.integers(len(members)))])
    least = max(_SIDES[0], math.sqrt(min_area / render.fill))
    scale = rng.uniform(least, max(least, _SIDES[1])) * size / render.side
    angle = math.radians(rng.uniform(-_TURN, _TURN))
    flip = -1.0 if rng.random() < 0.5 else 1.0

    turned = _turned(render, scale, angle, flip).convert("RGBA")
    red, green, blue = rng.uniform(0.75, 1.15) * rng.uniform(0.9, 1.1, 3)
    gains = (red, 0.0, 0.0, 0.0, 0.0, green, 0.0, 0.0, 0.0, 0.0, blue, 0.0)
    colours = turned.convert("RGB").convert("RGB", gains)
    return DrawnObject(category, colours, turned.getchannel("A"))


@dataclass(frozen=True, eq=False)
class _Render:
    """One decoded render, premultiplied, with a transparent border that keeps edges smooth."""

    image: Image.Image
    half: Image.Image
    side: int  # the longer side, without the border
    fill: float  # opaque pixels, as a share of the square over the longer side


@functools.cache  # about 50 MB a style once every render has been asked for
def _render(style: str, member: str) -> _Render:
    drawn = open_archive(style).read(member)
    bordered = Image.new("RGBA", (drawn.width + 4, drawn.height + 4))
    bordered.paste(drawn, (2, 2))
    premultiplied = bordered.convert("RGBa")
    opaque = np.count_nonzero(np.asarray(drawn.getchannel("A")) >= OPAQUE)
    side = max(drawn.size)
    return _Render(premultiplied, premultiplied.reduce(2), side, opaque / side**2)


def _turned(render: _Render, scale: float, angle: float, flip: float) -> Image.Image:
    """The render scaled, turned, and mirrored when ``flip`` is -1; still premultiplied."""
    image = render.image
    if scale < 0.6:  # from the half-size copy: bilinear sampling alone would alias
        image, scale = render.half, scale * 2
    cos, sin = math.cos(angle), math.sin(angle)
    width = math.ceil(scale * (image.width * cos + image.height * abs(sin)))
    height = math.ceil(scale * (image.width * abs(sin) + image.height * cos))
    # Pillow asks where each output pixel comes from: the inverse of turn, scale and flip.
    a, b, d, e = flip * cos / scale, flip * sin / scale, -sin / scale, cos / scale
    c = (image.width - a * width - b * height) / 2
    f = (image.height - d * width - e * height) / 2
    return image.transform(
        (width, height), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
    )
