"""Photographs that no teaching saw, labelled by hand before any mapper was asked.

LABELS is what is at hand everywhere. stamps() are 163 more, of things cut out on white, where
Debian's package tuxpaint-stamps-default is installed.

All everyday photographs that scikit-image and scikit-learn install, but for those that are no
photograph of a thing (microscope slides, medical images, drawings, scanned pages), one of the two
views of the motorcycle, and brick, grass and gravel: the demo's scenes have these three as
backgrounds, so teaching saw them. A label is any noun for what the photograph is of; singular and
plural both count.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

from PIL import Image

_STAMPS: Final = Path("/usr/share/tuxpaint/stamps")

LABELS: Final[dict[str, tuple[str, ...]]] = {
    "skimage/astronaut.png": ("woman", "astronaut", "person", "suit", "uniform", "helmet"),
    "skimage/camera.png": ("camera", "man", "tripod", "photographer", "coat"),
    "skimage/chelsea.png": ("cat", "kitten", "tabby"),
    "skimage/clock_motion.png": ("clock", "watch"),
    "skimage/coffee.png": ("coffee", "cup", "mug", "espresso", "spoon", "saucer", "table"),
    "skimage/coins.png": ("coin",),
    "skimage/hubble_deep_field.jpg": ("galaxy", "star", "sky", "planet"),
    "skimage/moon.png": ("moon", "crater", "planet"),
    "skimage/motorcycle_left.png": ("motorcycle", "motorbike", "bike", "scooter", "wheel"),
    "skimage/rocket.jpg": ("rocket", "missile", "spacecraft", "tower"),
    "sklearn/china.jpg": ("temple", "palace", "pagoda", "shrine", "building", "roof", "monastery"),
    "sklearn/flower.jpg": ("flower", "dahlia", "blossom", "petal", "plant"),
}


def photograph(name: str) -> bytes:
    """Reads one of the photographs.

    Args:
        name: A key of LABELS.

    Returns:
        The encoded image.
    """
    import skimage.data
    import sklearn.datasets

    package, file = name.split("/")
    folder = (
        Path(skimage.data.__file__).parent
        if package == "skimage"
        else Path(sklearn.datasets.__file__).parent / "images"
    )
    return (folder / file).read_bytes()


def stamps() -> dict[str, tuple[str, ...]]:
    """The photographs of Debian's package that are there, as LABELS has them; possibly none."""
    table = Path(__file__).with_name("stamps.txt").read_text(encoding="utf-8")
    rows = [line.split() for line in table.splitlines() if not line.startswith("#")]
    return {name: tuple(nouns) for name, *nouns in rows if (_STAMPS / f"{name}.png").is_file()}


def stamp(name: str) -> bytes:
    """Reads one of stamps(), on white.

    Args:
        name: A key of stamps().

    Returns:
        The encoded image.
    """
    with Image.open(_STAMPS / f"{name}.png") as image:
        drawn = image.convert("RGBA")
    side = max(drawn.size)
    canvas = Image.new("RGBA", (side, side), "white")
    place = (side - drawn.width) // 2, (side - drawn.height) // 2
    canvas.alpha_composite(drawn, place)
    buffer = io.BytesIO()
    canvas.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def is_right(labels: tuple[str, ...], words: list[str]) -> bool:
    """Whether one of the words is a noun for a photograph.

    Args:
        labels: Of it.
        words: What was answered.

    Returns:
        Whether a label, or its plural in s, is among them.
    """
    right = {form for noun in labels for form in (noun, noun + "s")}
    return bool(right & set(words))
