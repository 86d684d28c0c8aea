"""Image files that a dataset names: only those that lie inside its folder are ever read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lavise.errors import ImageError
from lavise.images import list_images

if TYPE_CHECKING:
    from pathlib import Path


def relative_names(folder: Path) -> set[str]:
    """The images of a folder and its subfolders.

    A file name of an annotation file counts only where it is one of these: a name that leads out
    of the folder ("../../etc/passwd") is in no listing of it.

    Args:
        folder: Holds images.

    Returns:
        Their paths from the folder, with "/" between the parts.

    Raises:
        DatasetError: There is no such folder, it cannot be read, or it holds no image.
    """
    return {path.relative_to(folder).as_posix() for path in list_images(folder)}


def read_image(file: Path) -> bytes:
    """The bytes of an image file.

    Args:
        file: From a listing.

    Returns:
        The bytes, not decoded.

    Raises:
        ImageError: The file cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise ImageError(
            f"{file}: cannot be read ({error.strerror}); make it readable, or move it out of the "
            "folder",
            field=str(file),
        ) from error
