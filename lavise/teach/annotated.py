"""Annotated images: what every reader of a dataset gives, and what is asked of a reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Region:
    """An annotated region of an image.

    Attributes:
        category: Its name.
        mask: (S, S) bool.
    """

    category: str
    mask: np.ndarray


@dataclass(frozen=True)
class AnnotatedImage:
    """An image with what is annotated in it.

    Attributes:
        pixels: (S, S, 3) uint8.
        regions: Possibly none.
    """

    pixels: np.ndarray
    regions: tuple[Region, ...]


class Dataset(Protocol):
    """Annotated images by position, so that threads can fetch them."""

    @property
    def spec(self) -> str:
        """What names it."""
        ...

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of what is annotated."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the dataset was left out and why, a sentence each, for a person to read."""
        ...

    def __len__(self) -> int:
        """How many images."""
        ...

    def fetch(self, position: int, size: int) -> AnnotatedImage:
        """One image, its shorter side scaled to ``size`` and cropped to a square."""
        ...
