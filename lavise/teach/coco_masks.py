"""Masks of COCO's annotations: polygons, run lengths (compressed or not), or the box alone.

hotcoco rasterises and decodes, to the pixel as pycocotools does. It is Rust: damaged run lengths
raise, where pycocotools reads memory that is not its own. What could still make it use memory out
of all proportion is refused by ``problem_of``.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from hotcoco import mask as coco_mask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from lavise.teach.geometry import Square

_LONGEST_OUTLINE: Final = 1_000_000
"""Pixels around a polygon; hotcoco needs 50 to 60 bytes for each."""
_FEWEST_VALUES: Final = 6
"""Of a polygon: three points. Four values alone would be taken as a box."""


def problem_of(annotation: Mapping[str, Any]) -> str:
    """Why an annotation cannot be made a mask, cheaply: nothing is drawn.

    Args:
        annotation: Of COCO's instances or results.

    Returns:
        The reason, in the plural, for a note; empty where there is none.
    """
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        return _run_length_problem(segmentation)
    if segmentation and isinstance(segmentation, list):
        return next(filter(None, map(_polygon_problem, segmentation)), "")
    if segmentation:
        return "annotations whose segmentation is neither polygons nor run lengths"
    return box_problem(annotation.get("bbox"))


def box_problem(box: Any) -> str:  # noqa: ANN401 - whatever the file holds
    """Why four numbers are no box: x, y, width, height.

    Args:
        box: Anything.

    Returns:
        The reason, in the plural; empty where there is none.
    """
    try:
        x, y, width, height = box
        finite = math.isfinite(x + y + width + height)
    except (TypeError, ValueError, OverflowError):
        return "boxes that are not four numbers"
    if not finite:
        return "boxes that are not finite"
    return "" if width > 0 and height > 0 else "boxes without an area"


def rle_size(annotation: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of an annotation's run lengths; (0, 0) where it has none."""
    segmentation = annotation.get("segmentation")
    if not isinstance(segmentation, dict):
        return 0, 0
    height, width = segmentation["size"]
    return height, width


def mask_of(annotation: Mapping[str, Any], size: tuple[int, int], square: Square) -> np.ndarray:
    """The mask of an annotation.

    Args:
        annotation: One that ``problem_of`` has nothing against.
        size: Height and width of the annotated image.
        square: What the CNN sees of it.

    Returns:
        (S, S) bool.
    """
    segmentation = annotation.get("segmentation")
    if not segmentation:
        return square.box(*annotation["bbox"])
    runs = coco_mask.frPyObjects(segmentation, *size)
    return square.sample(coco_mask.decode(coco_mask.merge(runs))).astype(bool)


def _run_length_problem(segmentation: Mapping[str, Any]) -> str:
    try:
        height, width = segmentation["size"]
        if not (type(height) is type(width) is int and height > 0 and width > 0):
            return "run lengths of no size"
        coco_mask.area(dict(segmentation))  # reads all runs, and checks them against the size
    except (KeyError, TypeError, ValueError, OverflowError):
        return "run lengths that are damaged"
    return ""


def _polygon_problem(polygon: Sequence[float]) -> str:
    try:
        if len(polygon) < _FEWEST_VALUES or len(polygon) % 2:
            return "polygons of fewer than three points"
        # Every step is at most the distance of its ends from the corner: twice this in all.
        reach = 2 * sum(map(abs, polygon))
        if not math.isfinite(reach):
            return "polygons that are not finite"
        if reach > _LONGEST_OUTLINE and _outline(polygon) > _LONGEST_OUTLINE:
            return f"polygons of more than {_LONGEST_OUTLINE:,} pixels around"
    except (TypeError, ValueError, OverflowError):
        return "polygons that are not lists of numbers"
    return ""


def _outline(polygon: Sequence[float]) -> float:
    """Pixels around a polygon, along its longer axis in each step."""
    points = list(zip(polygon[::2], polygon[1::2], strict=True))
    return sum(max(abs(a - c), abs(b - d)) for (a, b), (c, d) in pairwise([*points, points[0]]))
