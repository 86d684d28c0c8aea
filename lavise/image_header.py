"""What an encoded image claims to be, checked before a single pixel is decoded.

Every byte may be hostile. The size in bytes is looked at first, then the header alone; an image
that claims too many pixels, or whose structure makes a decoder work out of all proportion to its
size, is refused here. `lavise.images` decodes what is left.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise

from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from lavise.errors import ImageError

ACCEPTED = "JPEG, PNG, WebP, GIF (first frame), BMP, or TIFF (first page)"

# Pillow's readers are opened directly, not by Image.open: that one warns of a large size, by way
# of the process-wide warning filters, before we can look at it; hides why a header is wrong; and
# reads a phone's multi-picture JPEG as another format.
_READERS: tuple[tuple[re.Pattern[bytes], str, type[ImageFile]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG", JpegImageFile),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG", PngImageFile),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WebP", WebPImageFile),
    (re.compile(rb"GIF8[79]a"), "GIF", GifImageFile),
    (re.compile(rb"BM"), "BMP", BmpImageFile),
    (re.compile(rb"II[\x2a\x2b]\x00|MM\x00[\x2a\x2b]"), "TIFF", TiffImageFile),
)

# Parts that a real file holds a few of. Repeated without end they keep a decoder busy for minutes
# to hours on a small file, or fill the memory: each scan of a progressive JPEG goes over the whole
# image (libtiff, too, stops at 100), each EXIF block of a JPEG copies all those before it, each
# tiny JPEG segment costs Pillow two hundred bytes, and each PNG colour profile is inflated.
_REPEATS: dict[type[ImageFile], tuple[tuple[str, re.Pattern[bytes], int], ...]] = {
    JpegImageFile: (
        ("scans", re.compile(rb"\xff\xda\x00[\x08\x0a\x0c\x0e][\x01-\x04]"), 100),
        ("EXIF blocks", re.compile(rb"\xff\xe1..Exif\x00\x00", re.DOTALL), 1000),
        ("tiny segments", re.compile(rb"\xff[\xe0-\xef\xfe]\x00[\x00-\x1f]"), 1000),
    ),
    PngImageFile: (("colour profiles", re.compile(rb"iCCP"), 10),),
}


@dataclass(frozen=True)
class ImageLimits:
    """What one image may cost.

    Args:
        max_bytes: Size of the encoded image, in bytes.
        max_pixels: Width times height, as the header claims them.
    """

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000


DEFAULT_LIMITS = ImageLimits()


@contextmanager
def image_errors(name: str, kind: str) -> Iterator[None]:
    """Turn whatever Pillow raises, warnings made errors included, into an `ImageError`.

    Args:
        name: What to call the image in the message.
        kind: The format that its first bytes announce.

    Raises:
        ImageError: Something in the block failed.
    """
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ImageError(
            f"{name}: this {kind} is damaged, cut short, or of a kind that cannot be read "
            f"({reason}). Accepted: a whole {ACCEPTED}; save it again.",
            field=name,
        ) from error


def open_header(
    data: bytes | bytearray | memoryview, *, name: str, limits: ImageLimits = DEFAULT_LIMITS
) -> tuple[ImageFile, str]:
    """Read the header of an encoded image and refuse what would cost too much.

    Args:
        data: The encoded image.
        name: What to call the image in errors.
        limits: What it may cost.

    Returns:
        The image, not decoded yet, and the name of its format.

    Raises:
        ImageError: Empty, over a limit, of no accepted format, or with a damaged header.
    """
    if not len(data):
        raise ImageError(f"{name}: empty, 0 bytes. Accepted: {ACCEPTED}.", field=name)
    if len(data) > limits.max_bytes:
        raise ImageError(
            f"{name}: {len(data):,} bytes; at most {limits.max_bytes:,} are accepted. "
            "Make the image smaller or compress it more.",
            field=name,
        )
    head = bytes(data[:16])
    found = [(kind, reader) for magic, kind, reader in _READERS if magic.match(head)]
    if not found:
        raise ImageError(
            f"{name}: not an image of an accepted format. Accepted: {ACCEPTED}.", field=name
        )
    kind, reader = found[0]
    with image_errors(name, kind):
        for part, pattern, most in _REPEATS.get(reader, ()):
            count = sum(1 for _ in pattern.finditer(data))
            if count > most:
                raise ImageError(
                    f"{name}: this {kind} has {count:,} {part}; at most {most:,} are accepted. "
                    "Save it again.",
                    field=name,
                )
        image = reader(BytesIO(data))
        width, height = image.size
        if width * height > limits.max_pixels:
            raise ImageError(
                f"{name}: {width:,} x {height:,} pixels; at most {limits.max_pixels:,} in all "
                "are accepted. Make the image smaller.",
                field=name,
            )
        if isinstance(image, TiffImageFile):
            _check_tiff(image, name, limits)
    return image, kind


def _check_tiff(image: TiffImageFile, name: str, limits: ImageLimits) -> None:
    """Refuse a TIFF whose parts overlap in the file, or whose tiles are larger than any image.

    Thousands of strips that all read the same bytes decode the whole image once each, and an
    offset one byte after another makes Pillow read byte by byte, in quadratic time. A pixel has
    at least one bit, which bounds how close together honest strips can lie.
    """
    tile = [image.tag_v2.get(tag, 0) for tag in (TILEWIDTH, TILELENGTH)]
    # Bytes in place of a number multiply too: into as many bytes as the other tag asks for.
    if not all(isinstance(side, int) for side in tile) or tile[0] * tile[1] > limits.max_pixels:
        raise ImageError(
            f"{name}: the tiles of this TIFF have more than {limits.max_pixels:,} pixels. "
            "Save it again.",
            field=name,
        )
    for part, after in pairwise(sorted(image.tile, key=lambda tile: tile.offset)):
        left, top, right, bottom = part.extents or (0, 0, 0, 0)
        if (right - left) * (bottom - top) > 8 * (after.offset - part.offset):
            raise ImageError(
                f"{name}: the strips or tiles of this TIFF overlap in the file. Save it again.",
                field=name,
            )
