"""Small datasets in COCO's format: pictures that show their own masks, and the JSON beside them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 60, 40
SIZE = 40  # the shorter side: nothing is scaled, the crop is columns 10 to 50
SHAPE = [14.0, 4.0, 46.0, 4.0, 46.0, 36.0, 30.0, 20.0, 14.0, 36.0]  # a notch at the bottom


def write_picture(file: Path, mask: np.ndarray | None = None) -> None:
    """A picture that is white where the mask is, and grey elsewhere."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((HEIGHT, WIDTH, 3), 40, dtype=np.uint8)
    if mask is not None:
        pixels[mask] = 255
    Image.fromarray(pixels).save(file)


def polygon_mask(polygon: list[float]) -> np.ndarray:
    """(HEIGHT, WIDTH) bool, drawn by Pillow."""
    canvas = Image.new("1", (WIDTH, HEIGHT))
    ImageDraw.Draw(canvas).polygon(polygon, fill=1)
    return np.asarray(canvas)


def box_mask(x: int, y: int, w: int, h: int) -> np.ndarray:
    """(HEIGHT, WIDTH) bool."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y : y + h, x : x + w] = True
    return mask


def runs_of(mask: np.ndarray) -> list[int]:
    """Uncompressed run lengths, column by column, zeros first."""
    flat = np.concatenate([[0], mask.T.ravel(), [0]]).astype(int)
    edges = np.flatnonzero(np.diff(flat))
    ends = np.concatenate([[0], edges, [mask.size]])
    runs: list[int] = np.diff(ends).tolist()
    return runs if runs[-1] else runs[:-1]


def image(key: int, **others: Any) -> dict[str, Any]:
    """An entry of ``images``."""
    entry = {"id": key, "file_name": f"{key:04}.png", "width": WIDTH, "height": HEIGHT}
    return entry | others


def annotation(key: int, category: int = 1, **others: Any) -> dict[str, Any]:
    """An entry of ``annotations``: a box, unless something else is given."""
    entry = {"image_id": key, "category_id": category, "bbox": [12, 5, 10, 8], "iscrowd": 0}
    return entry | others


def write_coco(
    folder: Path,
    annotations: list[dict[str, Any]],
    *,
    images: list[dict[str, Any]] | None = None,
    categories: dict[int, str] | None = None,
) -> tuple[Path, Path]:
    """Writes pictures 1 to 3 and a file about them; the folder of images, and the file."""
    pictures = folder / "images"
    for key in (1, 2, 3):
        write_picture(pictures / f"{key:04}.png")
    listed = [image(key) for key in (1, 2, 3)] if images is None else images
    named = {1: "dog", 90: "traffic light"} if categories is None else categories
    file = folder / "instances.json"
    # The order of COCO's own files: categories come last.
    whole = {
        "info": {"year": 2017},
        "licenses": [{"id": 1, "name": "any"}],
        "images": listed,
        "annotations": [{"id": i, **entry} for i, entry in enumerate(annotations)],
        "categories": [{"id": key, "name": name} for key, name in named.items()],
    }
    file.write_text(json.dumps(whole), encoding="utf-8")
    return pictures, file
