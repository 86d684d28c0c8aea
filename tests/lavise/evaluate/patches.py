"""Grey images with coloured patches, whose masks are known: a dataset for the tiny CNN."""

from dataclasses import dataclass

import numpy as np

from lavise.errors import ImageError
from lavise.teach.datasets import AnnotatedImage, Region
from tests.tiny_cnn import COLOURS

UNTAUGHT = "leaf"
"""A word of the tiny bundle's vocabulary that no mapper was taught."""
OUTSIDE = "bolide"
"""No word of it."""
PAINTS = {**COLOURS, UNTAUGHT: (200, 90, 200), OUTSIDE: (10, 200, 200)}


@dataclass(frozen=True)
class Patches:
    """Images with none to three patches of different colours; a colour may come twice.

    Attributes:
        n: Images.
        broken: Positions that cannot be read.
        spec: What names the dataset.
    """

    n: int
    broken: tuple[int, ...] = ()
    spec: str = "patches"
    notes: tuple[str, ...] = ()

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(PAINTS)

    def __len__(self) -> int:
        return self.n

    def fetch(self, position: int, size: int) -> AnnotatedImage:
        if position in self.broken:
            raise ImageError(f"patch {position}: torn", field="dataset")
        rng = np.random.default_rng(position)
        pixels = np.full((size, size, 3), rng.integers(90, 160), dtype=np.float64)
        regions: list[Region] = []
        for name in rng.choice(list(PAINTS), int(rng.integers(0, 4))):
            mask = np.zeros((size, size), dtype=bool)
            top, left = rng.integers(0, size // 2, 2)
            mask[top : top + size // 2, left : left + size // 2] = True
            pixels[mask] = PAINTS[str(name)]
            regions = [Region(r.category, r.mask & ~mask) for r in regions]
            regions.append(Region(str(name), mask))
        noisy = pixels + rng.normal(0, 8, pixels.shape)
        return AnnotatedImage(noisy.clip(0, 255).astype(np.uint8), tuple(regions))
