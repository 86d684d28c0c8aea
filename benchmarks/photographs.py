"""Photographs that no teaching saw, labelled by hand before any mapper was asked.

All everyday photographs that scikit-image and scikit-learn install, but for those that are no
photograph of a thing (microscope slides, medical images, drawings, scanned pages), one of the two
views of the motorcycle, and brick, grass and gravel: the demo's scenes have these three as
backgrounds, so teaching saw them. A label is any noun for what the photograph is of; singular and
plural both count.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

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


def is_right(name: str, words: list[str]) -> bool:
    """Whether one of the words is a noun for the photograph.

    Args:
        name: A key of LABELS.
        words: What was answered.

    Returns:
        Whether a label, or its plural in s, is among them.
    """
    right = {form for noun in LABELS[name] for form in (noun, noun + "s")}
    return bool(right & set(words))
