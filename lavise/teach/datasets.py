"""Reference datasets: what teaches a mapper.

| spec | what it is |
|---|---|
| ``own-classes[:DIR]`` | the CNN's own classifier and class names; DIR holds unlabelled images |
| ``demo`` | scenes of rendered objects that come with LaViSE |
| ``folder:DIR`` | one folder of images for each category, named by it |
| ``coco:IMAGES:INSTANCES.json`` | COCO instances (``lavise.teach.coco``) |
| ``vg:IMAGES:OBJECTS.json`` | Visual Genome objects (``lavise.teach.visual_genome``) |
| ``broden:DIR`` | Broden (``lavise.teach.broden``) |
| ``voc:DIR`` | Pascal VOC segmentation (``lavise.teach.voc``) |
| ``detections:FILE.json[:IMAGES[:INSTANCES.json]]`` | a model's detections, in COCO's results \
format (``lavise.teach.detections``) |
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from lavise.demo.renders import TAUGHT_STYLES
from lavise.demo.scenes import Scenes, Split
from lavise.demo.scenes import categories as demo_categories
from lavise.errors import DatasetError, SpecError
from lavise.images import list_images, prepare
from lavise.teach.annotated import AnnotatedImage, Dataset, Region
from lavise.teach.broden import BrodenDataset
from lavise.teach.coco import CocoDataset
from lavise.teach.detections import ACCEPTED as DETECTIONS
from lavise.teach.detections import open_detections
from lavise.teach.image_folder import read_image
from lavise.teach.visual_genome import VisualGenomeDataset
from lavise.teach.voc import VocDataset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "ACCEPTED",
    "DEMO_SCENES",
    "AnnotatedImage",
    "Dataset",
    "Datasets",
    "DemoDataset",
    "FolderDataset",
    "Region",
    "UnlabelledDataset",
    "open_datasets",
]

ACCEPTED: Final = (
    "accepted: own-classes[:DIR], demo, folder:DIR, coco:IMAGES:INSTANCES.json, "
    f"vg:IMAGES:OBJECTS.json, broden:DIR, voc:DIR, {DETECTIONS}"
)
DEMO_SCENES: Final = 10_000


@dataclass(frozen=True)
class DemoDataset:
    """Scenes of rendered objects, composed on the fly.

    Attributes:
        seed: Of the scenes.
        n_scenes: How many.
        split: ``teach``, ``held-out`` or ``probe``: no two share a scene.
        styles: Of the renders, in turn from scene to scene; ``noto`` is never taught.
    """

    seed: int
    n_scenes: int = DEMO_SCENES
    split: Split = "teach"
    styles: tuple[str, ...] = TAUGHT_STYLES
    spec: str = "demo"
    notes: tuple[str, ...] = ()

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the rendered objects."""
        return tuple(dict.fromkeys(c for style in self.styles for c in demo_categories(style)))

    def __len__(self) -> int:
        """How many scenes."""
        return self.n_scenes

    def fetch(self, position: int, size: int) -> AnnotatedImage:
        """Composes one scene."""
        style = self.styles[position % len(self.styles)]
        scenes = Scenes(
            range(self.n_scenes), seed=self.seed, split=self.split, style=style, size=size
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

    notes: tuple[str, ...] = ()

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
        pixels = prepare(read_image(file), size, name=str(file))
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
    notes: tuple[str, ...] = ()

    def __init__(self, directory: Path) -> None:
        self.spec = f"own-classes:{directory}"
        self._files = list_images(directory)

    def __len__(self) -> int:
        """How many images."""
        return len(self._files)

    def fetch(self, position: int, size: int) -> AnnotatedImage:
        """Reads one image."""
        file = self._files[position]
        return AnnotatedImage(prepare(read_image(file), size, name=str(file)), ())


_OF_A_FOLDER: Final[dict[str, Callable[[Path], Dataset]]] = {
    "folder": FolderDataset,
    "broden": BrodenDataset,
    "voc": VocDataset,
}
_OF_IMAGES_AND_FILE: Final[dict[str, Callable[[Path, Path], Dataset]]] = {
    "coco": CocoDataset,
    "vg": VisualGenomeDataset,
}


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
        else:
            annotated.append(_open(spec, kind, rest))
    if own and not annotated and not unlabelled:
        # Features are needed to know how they spread; rendered scenes are at hand everywhere.
        unlabelled.append(DemoDataset(seed, min(demo_scenes, 1000)))
    return Datasets(tuple(specs), own, tuple(annotated), tuple(unlabelled))


def _open(spec: str, kind: str, rest: str) -> Dataset:
    """Opens a dataset that lies in files."""
    if rest and kind in _OF_A_FOLDER:
        return _OF_A_FOLDER[kind](Path(rest))
    # Of a spec of two paths the last colon parts them: a folder's name may hold one too.
    images, _, annotations = rest.rpartition(":")
    if images and annotations and kind in _OF_IMAGES_AND_FILE:
        return _OF_IMAGES_AND_FILE[kind](Path(images), Path(annotations))
    if rest and kind == "detections":
        return open_detections(spec)
    raise SpecError(f"unknown dataset spec {spec!r}; {ACCEPTED}", field="dataset")
