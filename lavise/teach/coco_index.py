"""What a COCO file holds, read in one pass: names and sizes of images, and places of annotations.

Wrong types mean that the file is no COCO file, and stop. Values that cannot be used (a box without
an area, an id that is not listed) leave one annotation out, and are counted.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from lavise.errors import DatasetError
from lavise.image_header import DEFAULT_LIMITS
from lavise.teach.coco_masks import problem_of, rle_size
from lavise.teach.image_folder import relative_names
from lavise.teach.json_elements import Element, elements

if TYPE_CHECKING:
    from pathlib import Path

    from lavise.teach.left_out import LeftOut

_RESULTS: Final = ""
"""The key of a file that is one array: COCO's results format."""


@dataclass(frozen=True)
class CocoIndex:
    """A COCO file by image. m images, n regions.

    Attributes:
        files: m names, from the image folder.
        sizes: (m, 2) height and width.
        first: (m + 1,) where the regions of each image begin in the arrays below.
        start: (n,) byte in the file where the annotation begins.
        length: (n,) of the annotation in bytes.
        category: (n,) position in ``categories``.
        categories: Names of those that have regions.
    """

    files: tuple[str, ...]
    sizes: np.ndarray
    first: np.ndarray
    start: np.ndarray
    length: np.ndarray
    category: np.ndarray
    categories: tuple[str, ...]


@dataclass
class _Found:
    """What one pass collects; arrays of machine numbers, no object for an annotation."""

    images: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    image: array[int] = field(default_factory=lambda: array("q"))
    category: array[int] = field(default_factory=lambda: array("q"))
    start: array[int] = field(default_factory=lambda: array("q"))
    length: array[int] = field(default_factory=lambda: array("q"))
    height: array[int] = field(default_factory=lambda: array("q"))
    width: array[int] = field(default_factory=lambda: array("q"))


def read_index(
    images: Path, annotations: Path, listing: Path, left_out: LeftOut, least_score: float | None
) -> CocoIndex:
    """Reads a COCO file.

    Args:
        images: The folder that file names start from.
        annotations: A COCO file, or a bare array of detections.
        listing: The file that lists images and categories; mostly the same one.
        left_out: Told what cannot be used.
        least_score: Detections below it are left out; None where there are no scores.

    Returns:
        The index.

    Raises:
        DatasetError: A file is not COCO's.
    """
    found = _Found()
    arrays = {"images", "categories"}
    if listing != annotations:
        for element in elements(listing, arrays):
            _take(element, listing, found)
        arrays = set()
    for element in elements(annotations, arrays | {"annotations"}):
        if element.key in {"annotations", _RESULTS}:
            _take_annotation(element, annotations, found, left_out, least_score)
        else:
            _take(element, annotations, found)
    for what, held in (("images", found.images), ("categories", found.names)):
        if not held:
            raise DatasetError(
                f"{listing}: lists no {what}; accepted: a COCO file, a JSON object with images, "
                "annotations and categories; for a bare array of detections: "
                "detections:RESULTS.json:IMAGES:INSTANCES.json",
                field="dataset",
            )
    return _by_image(found, images, left_out)


def _take(element: Element, file: Path, found: _Found) -> None:
    """An image or a category."""
    if element.key == _RESULTS:
        raise DatasetError(
            f"{file}: is an array; accepted: a COCO file, a JSON object with images and categories",
            field="dataset",
        )
    key = _whole(element, "id", file)
    known = found.images if element.key == "images" else found.names
    if key in known:
        raise _wrong(element, file, "id", f"{key} once more", "every id once")
    if element.key == "images":
        size = _whole(element, "height", file), _whole(element, "width", file)
        found.images[key] = (_text(element, "file_name", file), *size)
    else:
        found.names[key] = " ".join(_text(element, "name", file).replace("_", " ").split())


def _take_annotation(
    element: Element, file: Path, found: _Found, left_out: LeftOut, least_score: float | None
) -> None:
    annotation = element.value
    image, category = _whole(element, "image_id", file), _whole(element, "category_id", file)
    if annotation.get("iscrowd"):
        left_out.add("crowds, which are no single objects", element.place)
        return
    if least_score is not None:
        score = annotation.get("score")
        if not isinstance(score, int | float):
            raise _wrong(element, file, "score", repr(score), "a number")
        if not score >= least_score:  # NaN too
            left_out.add(f"detections with a score under {least_score:g}", element.place)
            return
    if problem := problem_of(annotation):
        left_out.add(problem, element.place)
        return
    height, width = rle_size(annotation)
    for column, value in (
        (found.image, image),
        (found.category, category),
        (found.start, element.start),
        (found.length, element.length),
        (found.height, height),
        (found.width, width),
    ):
        column.append(value)


def _by_image(found: _Found, folder: Path, left_out: LeftOut) -> CocoIndex:
    """Drops what cannot be used, now that all ids are known, and sorts regions by image."""
    usable = _usable_images(found, folder, left_out)
    left_out.refuse_nothing(len(usable), f"images of the file in {folder}")
    sizes = np.array([found.images[i][1:] for i in usable], dtype=np.int64)
    image = _positions(np.array(usable, dtype=np.int64), found.image)
    of_rle = np.stack([np.asarray(found.height), np.asarray(found.width)], axis=1)
    other_size = (of_rle[:, 0] > 0) & (of_rle != sizes[image]).any(axis=1)
    named = [i for i, name in found.names.items() if name]
    named_position = _positions(np.array(named, dtype=np.int64), found.category)
    listed = np.isin(np.asarray(found.image), list(found.images))
    start = np.asarray(found.start)
    keep = np.ones(len(image), dtype=bool)
    for reason, wrong in (
        ("annotations of an image id that is not listed", ~listed),
        ("annotations of images that were left out", listed & (image < 0)),
        ("annotations of a category id without a name", named_position < 0),
        ("run lengths of another size than the image's", other_size),
    ):
        places = start[keep & wrong]
        if len(places):
            left_out.add(reason, f"the one at byte {places[0]:,}", len(places))
        keep &= ~wrong
    used, category = np.unique(named_position[keep], return_inverse=True)
    names = [found.names[named[i]] for i in used]
    place = {name: i for i, name in enumerate(dict.fromkeys(names))}  # two ids of a name are one
    merged = np.array([place[name] for name in names], dtype=np.int32)
    order = np.argsort(image[keep], kind="stable")
    return CocoIndex(
        files=tuple(found.images[i][0] for i in usable),
        sizes=sizes,
        first=np.searchsorted(image[keep][order], np.arange(len(usable) + 1)),
        start=start[keep][order],
        length=np.asarray(found.length)[keep][order].astype(np.int32),
        category=merged[category[order]],
        categories=tuple(place),
    )


def _usable_images(found: _Found, folder: Path, left_out: LeftOut) -> list[int]:
    """Ids of the images that are there, in the order of the file."""
    there = relative_names(folder)
    usable = []
    for key, (name, height, width) in found.images.items():
        if min(height, width) < 1 or height * width > DEFAULT_LIMITS.max_pixels:
            left_out.add("images of an impossible size", f"{name!r}, {width} x {height}")
        elif name not in there:
            left_out.add(f"images that are not in {folder}", repr(name))
        else:
            usable.append(key)
    return usable


def _positions(ids: np.ndarray, wanted: array[int]) -> np.ndarray:
    """Where each wanted id stands among the ids; -1 where it does not."""
    if not len(ids):
        return np.full(len(wanted), -1)
    order = np.argsort(ids)
    at = np.minimum(np.searchsorted(ids[order], np.asarray(wanted)), len(ids) - 1)
    return np.where(ids[order][at] == np.asarray(wanted), order[at], -1)


def _whole(element: Element, key: str, file: Path) -> int:
    value = element.value.get(key)
    if type(value) is not int or abs(value) >= 2**63:
        raise _wrong(element, file, key, repr(value), "a whole number")
    return value


def _text(element: Element, key: str, file: Path) -> str:
    value = element.value.get(key)
    if not isinstance(value, str):
        raise _wrong(element, file, key, repr(value), "a text")
    return value


def _wrong(element: Element, file: Path, key: str, what: str, accepted: str) -> DatasetError:
    return DatasetError(
        f"{file}: {element.place} (byte {element.start:,}): {key} is {what[:80]}; accepted: "
        f"{accepted}, as in https://cocodataset.org/#format-data",
        field="dataset",
    )
