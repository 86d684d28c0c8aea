"""Pictures and heat maps for a sample report: what a service would hand over."""

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image

from lavise.report import Wanted

Pictures = dict[tuple[str, int], bytes]
Heatmaps = dict[tuple[str, int, int], np.ndarray]


def encoded(side: int = 64, kind: str = "JPEG", *, colour: str = "teal") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(out, kind)
    return out.getvalue()


def sample_pictures(wanted: Iterable[Wanted]) -> tuple[Pictures, Heatmaps]:
    """A plain picture for all that is wanted, and a 7 x 7 spot where a filter is named."""
    wanted = list(wanted)
    rng = np.random.default_rng(0)
    heatmaps: Heatmaps = {
        (one.side, one.index, one.filter): rng.random((7, 7), np.float32)
        for one in wanted
        if one.filter is not None
    }
    jpeg = {"a": encoded(colour="teal"), "b": encoded(colour="tan")}
    return {(one.side, one.index): jpeg[one.side] for one in wanted}, heatmaps
