"""A named set of images, read when asked for: probe sets, and the sets that are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lavise.errors import ImageError
from lavise.images import list_images, prepare
from lavise.prefetch import prefetch
from lavise.progress import Track, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np


@dataclass(frozen=True)
class ImageSet:
    """Unlabelled images by position.

    Attributes:
        name: What a person calls it.
        sources: The images' names.
        fetch: Position to (S, S, 3) uint8, called in threads.
    """

    name: str
    sources: Sequence[str]
    fetch: Callable[[int], np.ndarray]

    def readable(
        self,
        description: str,
        *,
        ahead: int,
        track: Track = silent,
        say: Callable[[str], None] = lambda _: None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Reads the images in threads, in order.

        Args:
            description: What the work is, for ``track``.
            ahead: Images that may wait.
            track: Shows progress.
            say: Told of images that could not be read; they are left out.

        Yields:
            Position and pixels.
        """

        def fetch(position: int) -> tuple[int, np.ndarray | ImageError]:
            try:
                return position, self.fetch(position)
            except ImageError as error:
                return position, error
            except OSError as error:
                source = self.sources[position]
                return position, ImageError(f"{source}: cannot be read ({error.strerror})")

        total = len(self.sources)
        for position, image in track(
            prefetch(fetch, range(total), ahead=ahead), description, total
        ):
            if isinstance(image, ImageError):
                say(f"left out: {image.message}")
            else:
                yield position, image


def folder_images(directory: Path, size: int) -> ImageSet:
    """A folder of images.

    Args:
        directory: Holds images, at any depth.
        size: Input side S of the CNN.

    Returns:
        The set.

    Raises:
        DatasetError: There is no image.
    """
    files = list_images(directory)
    return ImageSet(
        name=directory.name,
        sources=[_name(file.relative_to(directory)) for file in files],
        fetch=lambda i: prepare(files[i].read_bytes(), size, name=str(files[i])),
    )


def _name(path: Path) -> str:
    """A path as text that a table can hold: file names need not be UTF-8."""
    return str(path).encode("utf-8", "replace").decode()
