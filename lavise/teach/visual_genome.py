"""Visual Genome: images with boxes of objects, named freely or by WordNet's synsets.

https://homes.cs.washington.edu/~ranjay/visualgenome/api_readme. An entry of objects.json is
``{image_id, objects: [{names, synsets, x, y, w, h}]}`` (versions 1.2 and 1.4; version 1.0 writes
``id`` and ``name``). Objects are merged by meaning, as in the paper: the synset "dog.n.01" is
the category "dog", whatever the object was called. A synset's name is its first lemma, so no
WordNet is needed for it. An object without a synset goes by its first name. Categories of few
images are left out: most are misspellings.

Images are found by their number, in any subfolder: VG_100K/2.jpg and VG_100K_2/1.jpg. objects.json
does not say how large they are; boxes are taken in the pixels as stored, and clipped to them.

In memory there are 20 bytes for an object.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lavise.errors import DatasetError
from lavise.teach.annotated import AnnotatedImage, Region
from lavise.teach.coco_masks import box_problem
from lavise.teach.geometry import prepare_annotated
from lavise.teach.image_folder import read_image, relative_names
from lavise.teach.json_elements import Element, elements
from lavise.teach.left_out import LeftOut

if TYPE_CHECKING:
    from pathlib import Path

FEWEST_IMAGES: Final = 100
"""Of a category, as in the paper."""
_SYNSET: Final = re.compile(r"(.+)\.[nvasr]\.\d+")
_ACCEPTED: Final = (
    "objects.json of Visual Genome, a JSON array of {image_id, objects: [{names, synsets, x, y, w, "
    "h}]}, and the folder of its images, named by their number"
)


@dataclass
class _Found:
    """What one pass collects; arrays of machine numbers, no object for an object."""

    names: dict[str, int] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    image: array[int] = field(default_factory=lambda: array("i"))
    category: array[int] = field(default_factory=lambda: array("i"))
    box: array[float] = field(default_factory=lambda: array("f"))


class VisualGenomeDataset:
    """Visual Genome's objects.

    Args:
        images: Holds the images, at any depth.
        objects: objects.json.
        fewest_images: A category of fewer images is left out.

    Raises:
        DatasetError: The file is not Visual Genome's, or nothing in it can be used.
    """

    def __init__(self, images: Path, objects: Path, *, fewest_images: int = FEWEST_IMAGES) -> None:
        self.spec = f"vg:{images}:{objects}"
        self._images = images
        left_out = LeftOut(self.spec)
        found = _read(images, objects, left_out)
        n_images = len(found.files)
        image, category = np.asarray(found.image), np.asarray(found.category)
        names = tuple(found.names)
        pairs = np.unique(category.astype(np.int64) * n_images + image) if n_images else category
        n_of = np.bincount(pairs // max(n_images, 1), minlength=len(names))
        rare = n_of < fewest_images
        if rare.any():
            left_out.add(
                f"categories of fewer than {fewest_images} images, with {rare[category].sum():,} "
                "objects",
                repr(names[int(np.argmax(rare))]),
                int(rare.sum()),
            )
        kept = ~rare[category]
        order = np.argsort(image[kept], kind="stable")
        self._files = tuple(found.files)
        self._first = np.searchsorted(image[kept][order], np.arange(n_images + 1))
        self._box = np.asarray(found.box).reshape(-1, 4)[kept][order]
        self._category = (np.cumsum(~rare, dtype=np.int32) - 1)[category[kept][order]]
        left_out.refuse_nothing(len(self._box), _ACCEPTED)
        self.categories = tuple(n for n, few in zip(names, rare, strict=True) if not few)
        self.notes = left_out.notes()

    def __len__(self) -> int:
        """How many images."""
        return len(self._files)

    def fetch(self, position: int, size: int) -> AnnotatedImage:
        """Reads one image, with its boxes; those that the crop leaves nothing of are not.

        Args:
            position: Of the image.
            size: Side S.

        Returns:
            The image.

        Raises:
            ImageError: It cannot be read.
        """
        file = self._images / self._files[position]
        pixels, square = prepare_annotated(read_image(file), size, name=str(file))
        which = slice(self._first[position], self._first[position + 1])
        regions = (
            Region(self.categories[category], square.box(*box))
            for category, box in zip(self._category[which], self._box[which].tolist(), strict=True)
        )
        return AnnotatedImage(pixels, tuple(region for region in regions if region.mask.any()))


def _read(images: Path, objects: Path, left_out: LeftOut) -> _Found:
    """One pass over objects.json."""
    file_of = _by_number(images)
    found = _Found()
    seen: set[int] = set()
    for element in elements(objects, ()):
        key = element.value.get("image_id", element.value.get("id"))
        if type(key) is not int:
            raise _wrong(element, objects, f"image_id is {key!r}", "a whole number")
        listed = element.value.get("objects")
        if not isinstance(listed, list):
            raise _wrong(element, objects, f"objects is {type(listed).__name__}", "an array")
        if key in seen:
            left_out.add("entries of an image that has one already", element.place)
        elif key not in file_of:
            left_out.add(f"images that are not in {images}", f"number {key}")
        else:
            seen.add(key)
            found.files.append(file_of[key])
            for i, item in enumerate(listed):
                if problem := _take(item, found):
                    left_out.add(problem, f"{element.place}.objects[{i}]")
    return found


def _by_number(folder: Path) -> dict[int, str]:
    """File names from the folder, by the number that each is named by."""
    numbered: dict[int, str] = {}
    for name in sorted(relative_names(folder)):
        stem = name.rpartition("/")[2].partition(".")[0]
        if stem.isascii() and stem.isdigit():
            numbered.setdefault(int(stem), name)
    if not numbered:
        raise DatasetError(
            f"{folder}: no image named by its number, such as VG_100K/2.jpg; accepted: {_ACCEPTED}",
            field="dataset",
        )
    return numbered


def _take(item: Any, found: _Found) -> str:  # noqa: ANN401 - whatever the file holds
    """Adds an object to the last image, or says why it cannot be used."""
    if not isinstance(item, dict):
        return "objects that are no JSON objects"
    name = _category(item)
    if not name:
        return "objects without a name"
    box: list[Any] = [item.get(side) for side in ("x", "y", "w", "h")]
    if problem := box_problem(box):
        return problem
    found.image.append(len(found.files) - 1)
    found.category.append(found.names.setdefault(name, len(found.names)))
    found.box.extend(box)
    return ""


def _category(item: dict[str, Any]) -> str:
    """What an object is called; empty where nothing says it."""
    for synset in _texts(item.get("synsets")):
        if known := _SYNSET.fullmatch(synset):
            return _tidy(known[1])
    names = (*_texts(item.get("names")), *_texts(item.get("name")))
    return next(filter(None, map(_tidy, names)), "")


def _texts(value: object) -> list[str]:
    found = value if isinstance(value, list) else [value]
    return [text for text in found if isinstance(text, str)]


def _tidy(name: str) -> str:
    return " ".join(name.replace("_", " ").lower().split())


def _wrong(element: Element, file: Path, what: str, accepted: str) -> DatasetError:
    return DatasetError(
        f"{file}: {element.place} (byte {element.start:,}): {what[:80]}; accepted: {accepted}, as "
        "in objects.json of Visual Genome",
        field="dataset",
    )
