"""Encoded images to arrays, the way a CNN wants them, and the images of a folder.

All images come out as 8-bit RGB on white, upright:

* An EXIF orientation is applied. EXIF that cannot be read counts as upright, as in browsers.
* Transparent pixels are shown on white, as on a page; also where alpha is a palette entry or a key
  colour.
* Samples of 9 to 16 bits are scaled to 8, not clipped. 32-bit and floating-point samples have no
  agreed white, and are refused.
* CMYK becomes RGB without a colour profile. A CMYK JPEG is taken as inverted, as Adobe writes it,
  whether or not it says so: browsers do the same, and the mark is often stripped.
* Colour profiles are not applied, as in the usual training pipelines of CNNs.

Nothing of Pillow's process-wide state is changed; all functions may run in several threads.
"""

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from lavise.errors import DatasetError, ImageError
from lavise.image_header import ACCEPTED, DEFAULT_LIMITS, ImageLimits, image_errors, open_header

__all__ = [
    "ACCEPTED",
    "DEFAULT_LIMITS",
    "SUFFIXES",
    "ImageLimits",
    "decode",
    "encode_jpeg",
    "list_images",
    "prepare",
    "resize_crop",
]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")

# A JPEG is decoded at 1/2, 1/4 or 1/8 while that leaves this many times the side that is needed.
# Measured on photographs, at 2 the prepared image differs from one of a full decode by 0.3 to 0.8
# grey levels on average, no more than reducing_gap itself does; at 1 by up to 2.
_DRAFT_MARGIN = 2
_REDUCING_GAP = 3.0  # Pillow's documentation: close to an exact resize

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(
    data: bytes | bytearray | memoryview,
    *,
    name: str = "image",
    limits: ImageLimits = DEFAULT_LIMITS,
    min_side: int | None = None,
) -> NDArray[np.uint8]:
    """Decode an image to RGB.

    Args:
        data: The encoded image.
        name: What to call the image in errors.
        limits: What it may cost; checked before any pixel is decoded.
        min_side: The shorter side that the caller needs. A JPEG whose shorter side is at least
            twice that may come out at 1/2, 1/4 or 1/8 of its size, and is then decoded faster,
            but never with a shorter side under twice `min_side`. All of the image when None.

    Returns:
        The image, upright, (H, W, 3), uint8, writable.

    Raises:
        ImageError: Not an accepted image, damaged, or over a limit; `field` is `name`.
    """
    image, kind = open_header(data, name=name, limits=limits)
    with image_errors(name, kind):
        rgb, _, turn = _load(image, name, min_side)
        return np.array(rgb if turn is None else rgb.transpose(turn))


def prepare(
    data: bytes | bytearray | memoryview,
    size: int,
    *,
    name: str = "image",
    limits: ImageLimits = DEFAULT_LIMITS,
) -> NDArray[np.uint8]:
    """Decode an image, bring its shorter side to `size`, and cut out the centre square.

    Args:
        data: The encoded image.
        size: Side of the square, in pixels; a CNN's input size.
        name: What to call the image in errors.
        limits: What it may cost; checked before any pixel is decoded.

    Returns:
        The square, upright, (size, size, 3), uint8, C-contiguous.

    Raises:
        ImageError: Not an accepted image, damaged, or over a limit; `field` is `name`.
    """
    image, kind = open_header(data, name=name, limits=limits)
    with image_errors(name, kind):
        rgb, extent, turn = _load(image, name, size)
        square = _square(rgb, size, extent)
        # Turning comes last: the centre square stays the centre square, and it is small.
        return np.array(square if turn is None else square.transpose(turn))


def resize_crop(rgb: Image.Image | NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Bring the shorter side to `size`, bicubic with antialiasing, and cut out the centre square.

    Args:
        rgb: The image: mode RGB, or an array (H, W, 3), uint8.
        size: Side of the square, in pixels.

    Returns:
        The square, (size, size, 3), uint8, C-contiguous.
    """
    image = rgb if isinstance(rgb, Image.Image) else Image.fromarray(rgb)
    return np.array(_square(image, size, image.size))


def encode_jpeg(image: NDArray[np.uint8], quality: int = 80) -> bytes:
    """Encode pixels as a JPEG file.

    Args:
        image: (H, W, 3), uint8, RGB.
        quality: Of the JPEG, 1 to 95.

    Returns:
        The file.
    """
    encoded = BytesIO()
    Image.fromarray(image).save(encoded, "JPEG", quality=quality)
    return encoded.getvalue()


def list_images(directory: Path) -> list[Path]:
    """List the images of a folder and its subfolders, by suffix, in the order of their paths.

    Hidden files and folders are left out: they are thumbnails and other programs' notes.
    Linked folders are not entered, and linked files only count where they lead to a file inside
    `directory`.

    Args:
        directory: The folder.

    Returns:
        The paths, each beginning with `directory`; at least one.

    Raises:
        DatasetError: There is no such folder, it cannot be read, or it holds no image.
    """
    accepted = ", ".join(SUFFIXES)
    if not directory.is_dir():
        raise DatasetError(
            f"{directory}: no such folder. Accepted: a folder of images ({accepted}).",
            field=str(directory),
        )
    paths = sorted(_walk(directory))
    if not paths:
        raise DatasetError(
            f"{directory}: no image in this folder or its subfolders. Accepted: {accepted}.",
            field=str(directory),
        )
    return paths


def _walk(directory: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DatasetError(
            f"{error.filename}: cannot be read ({error.strerror}). Make it readable, or move it "
            "out of the image folder.",
            field=str(directory),
        ) from error

    root = directory.resolve()
    for folder, subfolders, names in os.walk(directory, onerror=refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES or not path.is_file():
                continue
            if not path.is_symlink() or path.resolve().is_relative_to(root):
                yield path


def _load(
    image: ImageFile, name: str, min_side: int | None
) -> tuple[Image.Image, tuple[float, float], Image.Transpose | None]:
    """Decode to RGB as stored; also its extent in pixels, and the turn that makes it upright.

    A JPEG decoded at 1/8 covers its last column only in part: the extent is not a whole number.
    """
    extent: tuple[float, float] = image.size
    if min_side is not None:
        needed = _DRAFT_MARGIN * min_side
        scaled = image.draft(None, (needed, needed))  # None where the format has no scaled decode
        if scaled is not None:
            extent = scaled[1][2:]
    image.load()
    return _rgb(image, name), extent, _turn(image)


def _rgb(stored: ImageFile, name: str) -> Image.Image:
    image: Image.Image = stored
    if image.mode in ("I", "F"):
        raise ImageError(
            f"{name}: 32-bit, signed or floating-point samples, whose white is not defined. "
            "Accepted: samples of at most 16 bits, from 0 up; save it again so.",
            field=name,
        )
    if image.mode.startswith("I;16"):
        image = _eight_bits(stored)
    if image.mode == "La":  # Pillow converts premultiplied grey to LA only
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        page = Image.new("RGB", image.size, "white")
        page.paste(image, mask=image)
        return page
    return image.convert("RGB")


def _eight_bits(image: ImageFile) -> Image.Image:
    """Scale grey samples of 9 to 16 bits to 8: Pillow's own conversion clips them at 255."""
    bits, white_is_zero = 16, False
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(BITSPERSAMPLE, (16,))[0]
        white_is_zero = image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
    white = 2**bits - 1
    levels = (np.arange(2**16, dtype=np.uint32).clip(max=white) * 255 + white // 2) // white
    if white_is_zero:  # Pillow minds this at 8 bits only
        levels = 255 - levels
    samples = np.asarray(image)
    grey = Image.fromarray(levels.astype(np.uint8)[samples])
    if "transparency" in image.info:  # a PNG's key colour, in 16 bits
        alpha = np.where(samples == image.info["transparency"], 0, 255)
        grey.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return grey


def _turn(image: ImageFile) -> Image.Transpose | None:
    """What makes a decoded image upright; Pillow has turned TIFF already, and cleared the tag."""
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - any damage in the EXIF block: the pixels are still good
        return None


def _square(image: Image.Image, size: int, extent: tuple[float, float]) -> Image.Image:
    """Resize only the centre square, in one call: the margins are never computed."""
    width, height = extent
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize(
        (size, size),
        Image.Resampling.BICUBIC,
        box=(left, top, left + side, top + side),
        reducing_gap=_REDUCING_GAP,
    )
