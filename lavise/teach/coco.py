"""COCO instances: images with objects outlined by polygons or run lengths.

https://cocodataset.org/#format-data. What of the format needs a decision:

* Crowds (``iscrowd`` 1) are left out: such a region is many objects and what lies between them,
  and COCO's own evaluation counts it neither as found nor as missed. Objects that a crowd overlaps
  stay as they are.
* Category ids have gaps (90 for 80 categories) and only ever serve to find the name.
* An annotation without segmentation is its box: detection sets such as Objects365 have no more.
* An image without annotations is an image of nothing taught: it is kept.
* COCO's file says how large each image is; EXIF orientation: see ``lavise.teach.geometry``.

In memory there are 16 bytes for a region: where in the file it stands, and its category. Its
outline is read from the file and drawn when the image is fetched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lavise.errors import DatasetError
from lavise.teach.annotated import AnnotatedImage, Region
from lavise.teach.coco_index import read_index
from lavise.teach.coco_masks import mask_of
from lavise.teach.geometry import prepare_annotated
from lavise.teach.image_folder import read_image
from lavise.teach.json_elements import parse_object
from lavise.teach.left_out import LeftOut

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from lavise.teach.geometry import Square

_ACCEPTED: Final = (
    "a COCO file with images, annotations and categories, and the folder that its file names "
    "start from"
)


class CocoDataset:
    """A COCO instances file and its images.

    Args:
        images: The folder that the file's ``file_name`` start from.
        annotations: The file.
        listing: A second file that lists images and categories, where the first is a bare array
            of detections.
        least_score: Detections below it are left out; None for annotations made by people, which
            have no score.
        spec: What names it; made of the paths where not given.

    Raises:
        DatasetError: A file is not COCO's, or nothing in it can be used.
    """

    def __init__(
        self,
        images: Path,
        annotations: Path,
        *,
        listing: Path | None = None,
        least_score: float | None = None,
        spec: str = "",
    ) -> None:
        self.spec = spec or f"coco:{images}:{annotations}"
        left_out = LeftOut(self.spec)
        self._images, self._annotations = images, annotations
        self._stamp = _stamp(annotations)
        self._index = read_index(images, annotations, listing or annotations, left_out, least_score)
        left_out.refuse_nothing(len(self._index.start), _ACCEPTED)
        self.categories = self._index.categories
        self.notes = left_out.notes()

    def __len__(self) -> int:
        """How many images."""
        return len(self._index.files)

    def fetch(self, position: int, size: int) -> AnnotatedImage:
        """Reads one image, and draws its regions; those that the crop leaves nothing of are not.

        Args:
            position: Of the image.
            size: Side S.

        Returns:
            The image.

        Raises:
            ImageError: It cannot be read, or has not the proportions that the file says.
            DatasetError: The annotation file was changed since it was opened.
        """
        index = self._index
        file = self._images / index.files[position]
        height, width = index.sizes[position].tolist()
        pixels, square = prepare_annotated(
            read_image(file), size, name=str(file), frame=(width, height)
        )
        which = slice(index.first[position], index.first[position + 1])
        masks = self._masks(which, (height, width), square)
        names = (self.categories[i] for i in index.category[which])
        regions = (Region(*found) for found in zip(names, masks, strict=True))
        return AnnotatedImage(pixels, tuple(region for region in regions if region.mask.any()))

    def _masks(self, which: slice, size: tuple[int, int], square: Square) -> list[np.ndarray]:
        if _stamp(self._annotations) != self._stamp:
            raise DatasetError(
                f"{self._annotations}: changed since it was opened; start again",
                field="dataset",
            )
        masks = []
        places = zip(self._index.start[which], self._index.length[which], strict=True)
        with self._annotations.open("rb") as stream:
            for start, length in places:
                stream.seek(start)
                found = parse_object(self._annotations, start, stream.read(length))
                masks.append(mask_of(found, size, square))
        return masks


def _stamp(file: Path) -> tuple[int, int]:
    """Changes when the file does."""
    try:
        found = file.stat()
    except OSError as error:
        raise DatasetError(
            f"{file}: cannot be read ({error.strerror}); accepted: {_ACCEPTED}", field="dataset"
        ) from error
    return found.st_size, found.st_mtime_ns
