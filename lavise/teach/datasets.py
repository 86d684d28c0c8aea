"""Reference datasets: what teaches a mapper.

| spec | what it is |
|---|---|
| ``own-classes[:DIR]`` | the CNN's own classifier and class names; DIR holds unlabelled images |
| ``demo`` | scenes of rendered objects that come with LaViSE |
| ``folder:DIR`` | one folder of images for each category, named by it |
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from lavise.demo.scenes import Scenes, Split
from lavise.demo.scenes import categories as demo_categories
from lavise.errors import DatasetError, ImageError, SpecError
from lavise.images import list_images, prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

ACCEPTED: Final = "accepted: own-classes[:DIR], demo, folder:DIR"
DEMO_SCENES: Final = 5000


@dataclass(frozen=True)
class Region:
    """An annotated region of an image.

    Attributes:
        category: Its name.
        mask: (S, S) bool.
    """

    category: str
    mask: np.ndarray


@dataclass(frozen=True)
class AnnotatedImage:
    """An image with what is annotated in it.

    Attributes:
        pixels: (S, S, 3) uint8.
        regions: Possibly none.
    """

    pixels: np.ndarray
    regions: tuple[Region, ...]


class Dataset(Protocol):
    """Annotated images by position, so that threads can fetch them."""

    @property
    def spec(self) -> str:
        """What names it."""
        ...

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of what is annotated."""
        ...

    def __len__(self) -> int:
        """How many images."""
        ...

    def fetch(self, position: int, size: int) -> AnnotatedImage:
        """One image, its shorter side scaled to ``size`` and cropped to a square."""
        ...


@dataclass(frozen=True)
class DemoDataset:
    """Scenes of rendered objects, composed on the fly.

    Attributes:
        seed: Of the scenes.
        n_scenes: How many.
        split: ``teach``, ``held-out`` or ``probe``: no two share a scene.
        style: Of the renders; ``noto`` is never taught.
    """

    seed: int
    n_scenes: int = DEMO_SCENES
    split: Split = "teach"
    style: str = "fluent"
    spec: str = "demo"

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the rendered objects."""
        return tuple(demo_categories(self.style))

    def __len__(self) -> int:
        """How many scenes."""
        return self.n_scenes

    def fetch(self, position: int, size: int) -> AnnotatedImage:
        """Composes one scene."""
        scenes = Scenes(
            range(self.n_scenes), seed=self.seed, split=self.split, style=self.style, size=size
        )
        scene = scenes[position]
        return AnnotatedImage(scene.image, tuple(Region(o.category, o.mask) for o in scene.objects))


class FolderDataset:
    """One folder of images for each category; the whole image is the region.

    Args:
        directory: Holds the folders.

    Raises:
        DatasetError: There is no folder with an image in it.
    """

    def __init__(self, directory: Path) -> None:
        self.spec = f"folder:{directory}"
        if not directory.is_dir():
            raise DatasetError(f"dataset {self.spec!r}: there is no such folder", field="dataset")
        self._files: list[tuple[Path, str]] = []
        for folder in sorted(p for p in directory.iterdir() if p.is_dir()):
            try:
                files = list_images(folder)
            except DatasetError:
                continue
            self._files += [(file, folder.name.replace("_", " ")) for file in files]
        if not self._files:
            raise DatasetError(
                f"dataset {self.spec!r} has no usable category; accepted: one folder of images "
                "for each category, named by it, such as DIR/zebra/001.jpg",
                field="dataset",
            )
        self.categories = tuple(dict.fromkeys(category for _, category in self._files))

    def __len__(self) -> int:
        """How many images."""
        return len(self._files)

    def fetch(self, position: int, size: int) -> AnnotatedImage:
        """Reads one image."""
        file, category = self._files[position]
        pixels = _read(file, size)
        whole = np.ones(pixels.shape[:2], dtype=bool)
        return AnnotatedImage(pixels, (Region(category, whole),))


class UnlabelledDataset:
    """Images without annotation: they show own-classes what features look like.

    Args:
        directory: Holds images, at any depth.

    Raises:
        DatasetError: There is none.
    """

    categories: tuple[str, ...] = ()

    def __init__(self, directory: Path) -> None:
        self.spec = f"own-classes:{directory}"
        self._files = list_images(directory)

    def __len__(self) -> int:
        """How many images."""
        return len(self._files)

    def fetch(self, position: int, size: int) -> AnnotatedImage:
        """Reads one image."""
        return AnnotatedImage(_read(self._files[position], size), ())


def _read(file: Path, size: int) -> np.ndarray:
    """(S, S, 3) uint8.

    Raises:
        ImageError: The file cannot be read, or is no accepted image.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ImageError(
            f"{file}: cannot be read ({error.strerror}); make it readable, or move it out of the "
            "folder",
            field=str(file),
        ) from error
    return prepare(data, size, name=str(file))


@dataclass(frozen=True)
class Datasets:
    """What the dataset specs of one teaching run name.

    Attributes:
        specs: As given.
        own_classes: Whether the CNN's own classes are among them.
        annotated: Those with categories.
        unlabelled: Those that only show own-classes what features look like.
    """

    specs: tuple[str, ...]
    own_classes: bool
    annotated: tuple[Dataset, ...]
    unlabelled: tuple[Dataset, ...]


def open_datasets(specs: Sequence[str], *, seed: int, demo_scenes: int = DEMO_SCENES) -> Datasets:
    """Opens the datasets that specs name.

    Args:
        specs: See the module's table; at least one.
        seed: Of composed scenes.
        demo_scenes: Scenes to compose for ``demo``.

    Returns:
        The datasets.

    Raises:
        SpecError: A spec is wrong.
        DatasetError: A dataset has nothing to use.
    """
    if not specs:
        raise SpecError(f"name at least one dataset; {ACCEPTED}", field="dataset")
    own = False
    annotated: list[Dataset] = []
    unlabelled: list[Dataset] = []
    for spec in dict.fromkeys(specs):
        kind, _, rest = spec.partition(":")
        if kind == "own-classes":
            own = True
            if rest:
                unlabelled.append(UnlabelledDataset(Path(rest)))
        elif spec == "demo":
            annotated.append(DemoDataset(seed, demo_scenes))
        elif kind == "folder" and rest:
            annotated.append(FolderDataset(Path(rest)))
        else:
            raise SpecError(f"unknown dataset spec {spec!r}; {ACCEPTED}", field="dataset")
    if own and not annotated and not unlabelled:
        # Features are needed to know how they spread; rendered scenes are at hand everywhere.
        unlabelled.append(DemoDataset(seed, min(demo_scenes, 1000)))
    return Datasets(tuple(specs), own, tuple(annotated), tuple(unlabelled))
