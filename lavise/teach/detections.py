"""Detections that a model made, in COCO's results format, as annotations.

https://cocodataset.org/#format-results: objects of image_id, category_id, score and a bbox, a
segmentation, or both; the segmentation counts where there is one. The format names neither images
nor categories, so they come from one of two places:

* ``detections:FILE.json[:IMAGES]``: FILE.json is an object with ``images`` and ``categories``
  beside ``annotations``, the detections. Without IMAGES its file names start from its own folder.
* ``detections:FILE.json:IMAGES:INSTANCES.json``: FILE.json is the bare array; INSTANCES.json lists
  images and categories, and its own annotations do not count.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lavise.errors import SpecError
from lavise.teach.coco import CocoDataset

ACCEPTED: Final = "detections:FILE.json[:IMAGES[:INSTANCES.json]]"
LEAST_SCORE: Final = 0.5


def open_detections(spec: str, *, least_score: float = LEAST_SCORE) -> CocoDataset:
    """Opens detections.

    Args:
        spec: ``detections:FILE.json[:IMAGES[:INSTANCES.json]]``.
        least_score: Detections below it are left out.

    Returns:
        The dataset.

    Raises:
        SpecError: The spec is wrong.
        DatasetError: A file is not COCO's, or nothing in it can be used.
    """
    _, *parts = spec.split(":")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise SpecError(f"dataset spec {spec!r}; accepted: {ACCEPTED}", field="dataset")
    results = Path(parts[0])
    return CocoDataset(
        Path(parts[1]) if len(parts) > 1 else results.parent,
        results,
        listing=Path(parts[2]) if len(parts) > 2 else None,
        least_score=least_score,
        spec=spec,
    )
