"""Pascal VOC segmentation: images with every pixel of 20 classes.

http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html. A region is a class in an
image, of one object or several. Index 0 is background and 255 is void, the outlines and what is
too hard to tell: both belong to no class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from lavise.errors import DatasetError, ImageError
from lavise.teach.annotated import AnnotatedImage, Region
from lavise.teach.geometry import prepare_annotated
from lavise.teach.image_folder import read_image, relative_names
from lavise.teach.label_images import read_indices
from lavise.teach.left_out import LeftOut

if TYPE_CHECKING:
    from pathlib import Path

CLASSES: Final = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "dining table",
    "dog",
    "horse",
    "motorbike",
    "person",
    "potted plant",
    "sheep",
    "sofa",
    "train",
    "tv monitor",
)
"""By index, from 1; VOC's compounds written as words."""
_VOID: Final = 255
_ACCEPTED: Final = (
    "a VOC folder, such as VOCdevkit/VOC2012, with JPEGImages, SegmentationClass and "
    "ImageSets/Segmentation/*.txt"
)


class VocDataset:
    """Pascal VOC's segmentation; all of its lists together, each image once.

    Args:
        directory: Such as VOCdevkit/VOC2012.

    Raises:
        DatasetError: It is no such folder, or nothing in it can be used.
    """

    categories: tuple[str, ...] = CLASSES

    def __init__(self, directory: Path) -> None:
        self.spec = f"voc:{directory}"
        self._directory = directory
        left_out = LeftOut(self.spec)
        names = self._listed()
        images = relative_names(directory / "JPEGImages")
        masks = relative_names(directory / "SegmentationClass")
        self._names = []
        for name, where in names.items():
            if f"{name}.jpg" not in images:
                left_out.add("listed images that are not in JPEGImages", f"{name!r} of {where}")
            elif f"{name}.png" not in masks:
                left_out.add("images without a mask in SegmentationClass", f"{name!r} of {where}")
            else:
                self._names.append(name)
        left_out.refuse_nothing(len(self._names), _ACCEPTED)
        self.notes = left_out.notes()

    def _listed(self) -> dict[str, str]:
        """Names of images, and the list that each is in first."""
        folder = self._directory / "ImageSets" / "Segmentation"
        names: dict[str, str] = {}
        try:
            lists = sorted(folder.glob("*.txt"))
            for file in lists:
                for line in file.read_text(encoding="utf-8").split():
                    names.setdefault(line, file.name)
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(
                f"dataset {self.spec!r}: {folder} cannot be read ({error}); accepted: {_ACCEPTED}",
                field="dataset",
            ) from error
        if not names:
            raise DatasetError(
                f"dataset {self.spec!r}: no list of images in {folder}; accepted: {_ACCEPTED}",
                field="dataset",
            )
        return names

    def __len__(self) -> int:
        """How many images."""
        return len(self._names)

    def fetch(self, position: int, size: int) -> AnnotatedImage:
        """Reads one image and its mask.

        Args:
            position: Of the image.
            size: Side S.

        Returns:
            The image; a class that the crop leaves nothing of is not among its regions.

        Raises:
            ImageError: Image or mask cannot be read, or do not belong together.
        """
        name = self._names[position]
        file = self._directory / "JPEGImages" / f"{name}.jpg"
        mask = self._directory / "SegmentationClass" / f"{name}.png"
        indices = read_indices(mask)
        strange = indices[(indices > len(CLASSES)) & (indices != _VOID)]
        if strange.size:
            raise ImageError(
                f"{mask}: index {strange[0]}; accepted: 0 (background), 1 to {len(CLASSES)} and "
                f"{_VOID} (void), as in SegmentationClass of Pascal VOC",
                field=str(mask),
            )
        height, width = indices.shape
        pixels, square = prepare_annotated(
            read_image(file), size, name=str(file), frame=(width, height)
        )
        seen = square.sample(indices)
        found = [int(i) for i in np.unique(seen) if i not in {0, _VOID}]
        return AnnotatedImage(pixels, tuple(Region(CLASSES[i - 1], seen == i) for i in found))
