"""Broden, the Broadly and Densely Labelled Dataset of Network Dissection (Bau et al., CVPR 2017).

https://github.com/CSAILVision/NetDissect, ``script/dlbroden.sh``. A folder with

* ``index.csv``: an image a line, with a column for each kind of concept (color, object, part,
  material, scene, texture). A cell holds file names of label images, or numbers of labels that
  the whole image has, several parted by ";": a pixel may have several concepts of one kind, and
  of several kinds.
* ``label.csv``: the names by number; 0 is no label. Label images hold these numbers, as
  red + 256·green. (``c_*.csv`` number the labels of each kind densely; only NetDissect's own
  arrays need that.)
* ``images/``: images and label images; the latter may be smaller.

A name that has several kinds ("water", a material and an object) is one concept. Names of colours
and scenes lose the mark that tells them from objects ("red-c", "street-s"). A number without a
name in label.csv counts as no label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from pyarrow import csv

from lavise.errors import DatasetError
from lavise.teach.annotated import AnnotatedImage, Region
from lavise.teach.geometry import prepare_annotated
from lavise.teach.image_folder import read_image, relative_names
from lavise.teach.label_images import read_red_green
from lavise.teach.left_out import LeftOut

if TYPE_CHECKING:
    from pathlib import Path

_ABOUT_THE_IMAGE: Final = frozenset({"image", "split", "ih", "iw", "sh", "sw"})
_MARKS: Final = {"-c": "color", "-s": "scene"}
_ACCEPTED: Final = "Broden's folder, such as broden1_224, with index.csv, label.csv and images/"


class BrodenDataset:
    """Broden, both of its splits.

    Args:
        directory: Such as broden1_224.

    Raises:
        DatasetError: It is no such folder, or nothing in it can be used.
    """

    def __init__(self, directory: Path) -> None:
        self.spec = f"broden:{directory}"
        self._images = directory / "images"
        left_out = LeftOut(self.spec)
        self._names = _names(_table(directory / "label.csv", ("number", "name", "category")))
        index = _table(directory / "index.csv", ("image",))
        self._files, self._labels = _usable(index, self._images, self._names, left_out)
        left_out.refuse_nothing(len(self._files), _ACCEPTED)
        self.categories = tuple(dict.fromkeys(self._names.values()))
        self.notes = left_out.notes()

    def __len__(self) -> int:
        """How many images."""
        return len(self._files)

    def fetch(self, position: int, size: int) -> AnnotatedImage:
        """Reads one image and its label images.

        Args:
            position: Of the image.
            size: Side S.

        Returns:
            The image; a concept that the crop leaves nothing of is not among its regions.

        Raises:
            ImageError: An image cannot be read, or image and label image do not belong together.
        """
        file = self._images / self._files[position]
        cells = self._labels[position].split(";")
        planes = [
            read_red_green(self._images / cell) for cell in cells if cell and not cell.isdigit()
        ]
        frame = planes[0].shape[::-1] if planes else None
        pixels, square = prepare_annotated(read_image(file), size, name=str(file), frame=frame)
        masks = {self._names[int(cell)]: square.whole() for cell in cells if cell.isdigit()}
        for plane in planes:
            seen = square.sample(plane)
            for number in np.unique(seen).tolist():
                name = self._names.get(number)
                if name is not None:
                    masks[name] = (
                        masks[name] | (seen == number) if name in masks else seen == number
                    )
        return AnnotatedImage(pixels, tuple(Region(*found) for found in masks.items()))


def _table(file: Path, columns: tuple[str, ...]) -> pa.Table:
    """A CSV file, every cell as text."""
    try:
        with file.open(encoding="utf-8-sig") as stream:
            header = stream.readline(10_000).strip().split(",")
        types = dict.fromkeys(header, pa.string())
        table = csv.read_csv(file, convert_options=csv.ConvertOptions(column_types=types))
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise DatasetError(
            f"{file}: cannot be read as CSV ({error}); accepted: {_ACCEPTED}", field="dataset"
        ) from error
    if missing := [name for name in columns if name not in table.column_names]:
        raise DatasetError(
            f"{file}: no column {missing[0]!r}, only {', '.join(table.column_names)}; accepted: "
            f"{_ACCEPTED}",
            field="dataset",
        )
    return table


def _names(table: pa.Table) -> dict[int, str]:
    """Names by number, without 0, which is no label."""
    names = {}
    rows = (table.column(name).to_pylist() for name in ("number", "name", "category"))
    for line, (number, name, kinds) in enumerate(zip(*rows, strict=True), 2):
        if not (number.isascii() and number.isdigit()):
            raise DatasetError(
                f"label.csv, line {line}: number is {number[:80]!r}; accepted: a whole number",
                field="dataset",
            )
        for mark, kind in _MARKS.items():
            if f"{kind}(" in kinds:
                name = name.removesuffix(mark)  # noqa: PLW2901 - the mark is no part of it
        name = " ".join(name.replace("_", " ").split())  # noqa: PLW2901 - tidied
        if int(number) and name:
            names[int(number)] = name
    return names


def _usable(
    index: pa.Table, folder: Path, names: dict[int, str], left_out: LeftOut
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Images that are there, and the labels of each that can be used, parted by ";"."""
    there = relative_names(folder)
    kinds = [name for name in index.column_names if name not in _ABOUT_THE_IMAGE]
    columns = [index.column(kind).to_pylist() for kind in kinds]
    files, labels = [], []
    for line, (file, *cells) in enumerate(
        zip(index.column("image").to_pylist(), *columns, strict=True), 2
    ):
        where = f"{file!r} in line {line} of index.csv"
        if file not in there:
            left_out.add(f"images that are not in {folder}", where)
            continue
        kept = []
        for cell in filter(None, ";".join(cells).split(";")):
            if cell.isascii() and cell.isdigit():
                if int(cell) in names:
                    kept.append(cell)
                elif int(cell):
                    left_out.add("labels whose number has no name in label.csv", f"{cell}, {where}")
            elif cell in there:
                kept.append(cell)
            else:
                left_out.add(f"label images that are not in {folder}", f"{cell!r}, {where}")
        files.append(file)
        labels.append(";".join(kept))
    return tuple(files), tuple(labels)
