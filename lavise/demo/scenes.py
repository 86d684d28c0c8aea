"""Composed scenes: rendered objects over random backgrounds, with exact masks.

The demo's reference dataset, probe set and held-out set. Nothing is stored but the renders:
a scene is drawn when it is asked for, from ``(seed, split, index)`` alone, so that splits never
share a scene, any process can draw any range, and every run sees the same pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Literal, overload

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from lavise.demo.backgrounds import compose_background
from lavise.demo.objects import OPAQUE, DrawnObject, draw_object, style_categories
from lavise.errors import SpecError

Bytes = npt.NDArray[np.uint8]
Split = Literal["teach", "held-out", "probe"]

SPLITS: tuple[Split, ...] = ("teach", "held-out", "probe")

_COUNTS = (1, 2, 3, 4)
_COUNT_CHANCES = (0.17, 0.36, 0.28, 0.19)  # a few do not fit: 2.46 objects a scene remain
_MIN_VISIBLE = 0.5  # of an object's own area
_MIN_AREA = 0.02  # of the image
_ROOM = 1.5  # an object alone has this many times the least area, so that some can be hidden
_TRIES = 6  # positions tried before an object is left out
_OVERHANG = 0.15  # how far an object may lie outside, in sides of its own


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One object of a scene.

    Attributes:
        category: What it is: a concrete noun with a GloVe vector.
        mask: (S, S) bool, its visible pixels.
    """

    category: str
    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Scene:
    """A composed image and what is in it.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        objects: Back to front; their masks do not overlap, their categories differ.
    """

    image: Bytes
    objects: tuple[SceneObject, ...]


@dataclass(frozen=True)
class Scenes(Sequence[Scene]):
    """The scenes of a split, drawn when indexed; slices are as lazy as the whole.

    Args:
        indices: Which scenes: ``range(1000)`` are the first thousand.
        seed: Any number from 0.
        split: Splits share the categories and no scene.
        style: Whose renders, one of lavise.demo.renders.STYLES.
        size: Side of the images in pixels.
        categories: The categories to draw from, by default all of the style.

    Raises:
        SpecError: The split, the style or a category is unknown, or the seed is negative.
    """

    indices: range
    _: KW_ONLY
    seed: int
    split: Split
    style: str = "fluent"
    size: int = 224
    categories: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise SpecError(
                f"Split {self.split!r} is unknown; it is one of {', '.join(SPLITS)}.", field="split"
            )
        if self.seed < 0:
            raise SpecError(f"Seed {self.seed} is negative; give 0 or more.", field="seed")
        _pool(self.style, self.categories)

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Scene: ...
    @overload
    def __getitem__(self, index: slice) -> "Scenes": ...
    def __getitem__(self, index: int | slice) -> "Scene | Scenes":
        if isinstance(index, slice):
            return replace(self, indices=self.indices[index])
        key = (SPLITS.index(self.split), self.indices[index])
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
        return compose_scene(rng, style=self.style, size=self.size, categories=self.categories)


def compose_scenes(
    n: int,
    *,
    seed: int,
    split: Split,
    style: str = "fluent",
    size: int = 224,
    categories: Sequence[str] | None = None,
) -> Iterator[Scene]:
    """Stream the first ``n`` scenes of a split; `Scenes` has the arguments and the errors."""
    chosen = None if categories is None else tuple(categories)
    return iter(Scenes(range(n), seed=seed, split=split, style=style, size=size, categories=chosen))


def categories(style: str = "fluent") -> list[str]:
    """The categories that a style draws, in alphabetical order.

    Raises:
        SpecError: The style is unknown.
    """
    return list(style_categories(style))


def compose_scene(
    rng: np.random.Generator,
    *,
    style: str = "fluent",
    size: int = 224,
    categories: Sequence[str] | None = None,
) -> Scene:
    """Draw one scene: 1 to 4 objects of different categories, each at least half visible.

    Args:
        rng: The source of chance.
        style: Whose renders, one of lavise.demo.renders.STYLES.
        size: Side of the image in pixels.
        categories: The categories to draw from, equally often; by default all of the style.

    Returns:
        The scene. Each object covers at least 2 % of it.

    Raises:
        SpecError: The style or a category is unknown.
    """
    pool = _pool(style, categories)
    count = min(int(rng.choice(_COUNTS, p=_COUNT_CHANCES)), len(pool))
    canvas = compose_background(rng, size)
    owners = np.zeros((size, size), np.uint8)  # 0: background, k: the k-th object placed
    placed: list[_Placed] = []
    for choice in rng.choice(len(pool), count, replace=False):
        drawn = draw_object(rng, style, pool[int(choice)], size, min_area=_ROOM * _MIN_AREA)
        _place(rng, drawn, canvas, owners, placed)
    objects = tuple(
        SceneObject(one.category, owners == number) for number, one in enumerate(placed, start=1)
    )
    return Scene(_photograph(rng, canvas), objects)


def _pool(style: str, categories: Sequence[str] | None) -> Sequence[str]:
    """The categories to draw from, checked."""
    known = style_categories(style)
    if categories is None:
        return known
    unknown = sorted(set(categories).difference(known))
    if unknown or not categories:
        what = f"no category {unknown[0]!r}" if unknown else "nothing to draw from an empty list"
        raise SpecError(
            f"The {style} renders have {what}; lavise.demo.scenes.categories({style!r}) lists"
            f" all {len(known)}.",
            field="categories",
        )
    return categories


@dataclass(eq=False)
class _Placed:
    category: str
    area: int  # opaque pixels of the whole object, hidden ones included
    visible: int


def _place(
    rng: np.random.Generator,
    drawn: DrawnObject,
    canvas: Image.Image,
    owners: Bytes,
    placed: list[_Placed],
) -> None:
    """Paste the object where enough of it and of those before it stays visible, or nowhere."""
    size = canvas.width
    width, height = drawn.alpha.size
    opaque = np.asarray(drawn.alpha) >= OPAQUE
    area = int(np.count_nonzero(opaque))
    # The first object lies wholly inside, so that no scene is empty.
    overhang = _OVERHANG if placed else 0.0
    for _ in range(_TRIES):
        left, top = _offset(rng, size, width, overhang), _offset(rng, size, height, overhang)
        region = owners[max(top, 0) : top + height, max(left, 0) : left + width]
        inside = opaque[max(-top, 0) :, max(-left, 0) :][: region.shape[0], : region.shape[1]]
        visible = int(np.count_nonzero(inside))
        hidden = np.bincount(region[inside], minlength=len(placed) + 1)[1:]
        remaining = [one.visible - int(loss) for one, loss in zip(placed, hidden, strict=True)]
        areas = [area, *(one.area for one in placed)]
        if all(map(_enough, [visible, *remaining], areas, [size] * len(areas))):
            break
    else:
        return
    for one, pixels in zip(placed, remaining, strict=True):
        one.visible = pixels
    placed.append(_Placed(drawn.category, area, visible))
    region[inside] = len(placed)
    canvas.paste(drawn.colours, (left, top), drawn.alpha)


def _offset(rng: np.random.Generator, size: int, extent: int, overhang: float) -> int:
    """Where an object of this extent begins along one side of the image."""
    beyond = int(extent * overhang)
    return int(rng.integers(-beyond, max(size - extent, 0) + beyond + 1))


def _enough(visible: int, area: int, size: int) -> bool:
    return visible >= _MIN_VISIBLE * area and visible >= _MIN_AREA * size * size


def _photograph(rng: np.random.Generator, canvas: Image.Image) -> Bytes:
    """What a camera adds: some blur, contrast and brightness, some grain."""
    if rng.random() < 0.3:
        canvas = canvas.filter(ImageFilter.BoxBlur(rng.uniform(0.2, 0.9)))
    gain, grain = rng.uniform(0.75, 1.1), (0, 3, 7, 15)[int(rng.integers(4))]
    shift = 127.5 * (1 - gain) + rng.uniform(-20, 20) - grain / 2
    matrix = (gain, 0.0, 0.0, shift, 0.0, gain, 0.0, shift, 0.0, 0.0, gain, shift)
    exposed = np.asarray(canvas.convert("RGB", matrix))
    # Masked random bytes are uniform from 0 to grain, and far cheaper than normal noise.
    noise = np.frombuffer(rng.bytes(exposed.size), np.uint8).reshape(exposed.shape)
    grained: Bytes = np.minimum(exposed, 255 - grain) + (noise & np.uint8(grain))
    return grained
