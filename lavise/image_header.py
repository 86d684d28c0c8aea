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
from PIL.JpegImagePlugin import MARKER, JpegImageFile
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

# Parts that a real file holds a few of; many of them keep a decoder busy for minutes to hours on
# a small file, or fill the memory. Each scan of a progressive JPEG goes over the whole image
# (libtiff, too, stops at 100); each EXIF segment of a JPEG copies all those before it, and any
# segment costs Pillow some two hundred bytes; each colour profile of a PNG is inflated.
_MOST_SCANS = 100
_MOST_SEGMENTS = 2000
_MOST_PROFILES = 10


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
    data = bytes(data)
    found = [(kind, reader) for magic, kind, reader in _READERS if magic.match(data)]
    if not found:
        raise ImageError(
            f"{name}: not an image of an accepted format. Accepted: {ACCEPTED}.", field=name
        )
    kind, reader = found[0]
    with image_errors(name, kind):
        for part, count, most in _repeats(reader, data):
            if count > most:
                raise ImageError(
                    f"{name}: this {kind} has too many {part}, {count:,} or more; at most {most:,} "
                    "are accepted. Save it again.",
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


def _repeats(reader: type[ImageFile], data: bytes) -> list[tuple[str, int, int]]:
    """What an image of this format must not repeat: the part, how often it does, how often it may.

    Counting is by the bytes that begin a part, wherever they lie. By chance they would turn up
    about once in 16 MiB; inside a scan, never.
    """
    if reader is JpegImageFile:
        return [
            ("scans", data.count(b"\xff\xda\x00"), _MOST_SCANS),
            ("segments", _segments(data), _MOST_SEGMENTS),
        ]
    if reader is PngImageFile:
        return [("colour profiles", data.count(b"iCCP"), _MOST_PROFILES)]
    return []


def _segments(jpeg: bytes) -> int:
    """Count the steps that Pillow takes to the first scan, bytes of junk included, up to the limit.

    Its own table of markers says which have a length, so that both walk the same way.
    """
    at, steps = 2, 0
    while steps <= _MOST_SEGMENTS and at + 1 < len(jpeg):
        steps += 1
        marker = int.from_bytes(jpeg[at : at + 2])
        if marker == 0xFFDA:
            break
        if marker in MARKER:
            has_length = MARKER[marker][2] is not None
            at += 2 + (max(2, int.from_bytes(jpeg[at + 2 : at + 4])) if has_length else 0)
        else:
            at += 2 if marker == 0xFF00 else 1
    return steps


def _check_tiff(image: TiffImageFile, name: str, limits: ImageLimits) -> None:
    """Refuse a TIFF whose strips or tiles are too large, leave gaps, or overlap in the file.

    Pillow leaves what no strip covers black. Thousands of strips that all read the same bytes
    decode the whole image once each, and an offset one byte after another makes it read byte by
    byte, in quadratic time. A pixel has at least one bit, which bounds how close together honest
    strips can lie.
    """
    tile = [image.tag_v2.get(tag, 0) for tag in (TILEWIDTH, TILELENGTH)]
    parts = sorted((part.offset, _area(part.extents)) for part in image.tile)
    # Bytes in place of a number multiply too: into as many bytes as the other tag asks for.
    if not all(isinstance(side, int) for side in tile) or tile[0] * tile[1] > limits.max_pixels:
        fault = f"have more than {limits.max_pixels:,} pixels"
    elif sum(area for _, area in parts) < image.width * image.height:
        fault = "do not cover the image"
    elif any(area > 8 * (after - here) for (here, area), (after, _) in pairwise(parts)):
        fault = "overlap in the file"
    else:
        return
    raise ImageError(
        f"{name}: the strips or tiles of this TIFF {fault}. Save it again.", field=name
    )


def _area(extents: tuple[int, int, int, int] | None) -> int:
    left, top, right, bottom = extents or (0, 0, 0, 0)
    return (right - left) * (bottom - top)
