"""Odd images, built in memory: every kind that a door must either read or refuse clearly."""

import struct
import zlib
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image


@dataclass(frozen=True)
class OddImage:
    """An encoded image, and whether it is accepted under the default limits."""

    data: bytes
    accepted: bool


@cache
def odd_images() -> dict[str, OddImage]:
    """All odd images by name; the names of pictures end in the suffix of their format."""
    images = {name: OddImage(data, accepted=True) for name, data in _accepted().items()}
    images |= {name: OddImage(data, accepted=False) for name, data in _refused().items()}
    return images


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def scene(width: int = 96, height: int = 64) -> Image.Image:
    """An RGB picture without symmetry: gradients, some noise, a red square at the top left."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(0).integers(0, 24, (height, width))
    rgb = np.stack([x * 200 // width, y * 200 // height, noise + 60], axis=-1).astype(np.uint8)
    rgb[: height // 4, : height // 4] = (250, 10, 10)
    return Image.fromarray(rgb)


def translucent() -> Image.Image:
    """A scene, RGBA, whose right half is fully transparent."""
    image = scene().convert("RGBA")
    image.paste((0, 0, 0, 0), (48, 0, 96, 64))
    return image


def tiff(
    samples: bytes,
    size: tuple[int, int],
    *,
    bits: int,
    photometric: int = 1,
    **tags: tuple[int, ...],
) -> bytes:
    """A grey, uncompressed TIFF, as Pillow itself would not write it.

    Args:
        samples: The packed pixels; they lie at offset 8.
        size: Width and height.
        bits: Bits per sample.
        photometric: 0 where zero is white, 1 where it is black.
        tags: Values for StripOffsets (`t273`), RowsPerStrip (`t278`) or any other tag, all LONG.
    """
    values: dict[int, tuple[int, ...]] = {
        256: (size[0],),
        257: (size[1],),
        258: (bits,),
        259: (1,),
        262: (photometric,),
        273: (8,),
        277: (1,),
        278: (size[1],),
        279: (len(samples),),
    }
    values |= {int(tag[1:]): numbers for tag, numbers in tags.items()}
    body, entries = samples + bytes(len(samples) % 2), b""
    for tag, numbers in sorted(values.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            body, packed = body + packed, struct.pack("<I", 8 + len(body))
        entries += struct.pack("<HHI", tag, 4, len(numbers)) + packed
    directory = struct.pack("<H", len(values)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory


def grey_ramp() -> NDArray[np.uint16]:
    """(4, 256) from 0 to 65535."""
    return np.linspace(0, 65535, 1024).round().astype(np.uint16).reshape(4, 256)


def _accepted() -> dict[str, bytes]:
    rgb, grey, rgba = scene(), scene().convert("L"), translucent()
    mirrored = rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    upright_if_turned = rgb.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    palette = rgb.quantize(16)
    inks = rgb.convert("CMYK")
    ramp = grey_ramp()
    jpeg = encode(rgb, "JPEG", quality=95)
    return {
        "plain.jpg": jpeg,
        "progressive.jpg": encode(rgb, "JPEG", quality=95, progressive=True),
        "grey.jpg": encode(grey, "JPEG"),
        "cmyk_adobe.jpg": encode(inks, "JPEG", quality=95),
        "cmyk_unmarked.jpg": without_adobe_mark(encode(inks, "JPEG", quality=95)),
        "orientation_6.jpg": encode(upright_if_turned, "JPEG", quality=95, exif=exif),
        "unreadable_exif.jpg": jpeg[:2] + b"\xff\xe1\x00\x0fExif\0\0garbage" + jpeg[2:],
        "bytes_after_the_end.jpg": jpeg + b"\0" * 1000,
        "plain.png": encode(rgb, "PNG"),
        "rgba.png": encode(rgba, "PNG"),
        "grey_alpha.png": encode(rgba.convert("LA"), "PNG"),
        "grey_16_bit.png": encode(Image.fromarray(ramp), "PNG"),
        "grey_16_bit_key_colour.png": encode(Image.fromarray(ramp), "PNG", transparency=0),
        "one_bit.png": encode(grey.convert("1"), "PNG"),
        "palette.png": encode(palette, "PNG"),
        "palette_key_colour.png": encode(palette, "PNG", transparency=3),
        "palette_alpha.png": encode(palette, "PNG", transparency=bytes(range(0, 256, 16))),
        "key_colour.png": encode(rgb, "PNG", transparency=(250, 10, 10)),
        "orientation_6.png": encode(upright_if_turned, "PNG", exif=exif),
        "animated.png": encode(rgb, "PNG", save_all=True, append_images=[mirrored]),
        "tall_1x5000.png": encode(rgb.resize((1, 5000)), "PNG"),
        "wide_5000x1.png": encode(rgb.resize((5000, 1)), "PNG"),
        "tiny_1x1.png": encode(Image.new("RGB", (1, 1), (10, 200, 30)), "PNG"),
        "tiny_1x1.jpg": encode(Image.new("RGB", (1, 1), (10, 200, 30)), "JPEG"),
        "plain.webp": encode(rgb, "WEBP", quality=95),
        "lossless_alpha.webp": encode(rgba, "WEBP", lossless=True),
        "animated.webp": encode(
            rgb, "WEBP", save_all=True, append_images=[mirrored], lossless=True
        ),
        "orientation_6.webp": encode(upright_if_turned, "WEBP", lossless=True, exif=exif),
        "plain.gif": encode(palette, "GIF"),
        "animated.gif": encode(palette, "GIF", save_all=True, append_images=[mirrored]),
        "transparent.gif": encode(palette, "GIF", transparency=3),
        "plain.bmp": encode(rgb, "BMP"),
        "one_bit.bmp": encode(grey.convert("1"), "BMP"),
        "plain.tiff": encode(rgb, "TIFF"),
        "lzw.tiff": encode(rgb, "TIFF", compression="tiff_lzw"),
        "two_pages.tiff": encode(rgb, "TIFF", save_all=True, append_images=[mirrored]),
        "cmyk.tiff": encode(inks, "TIFF"),
        "grey_16_bit.tiff": encode(Image.fromarray(ramp), "TIFF"),
        "grey_16_bit_big_endian.tiff": encode(Image.fromarray(ramp.astype(">u2")), "TIFF"),
        "grey_16_bit_zero_is_white.tiff": tiff(
            (65535 - ramp).astype("<u2").tobytes(), (256, 4), bits=16, photometric=0
        ),
        "grey_12_bit.tiff": tiff(b"\x00\x0f\xff\x80\x00\x00", (4, 1), bits=12),
        # As stored: luminance times alpha, alpha.
        "grey_premultiplied.tiff": tiff(
            bytes([0, 0, 64, 128, 0, 255, 255, 255]),
            (4, 1),
            bits=8,
            t258=(8, 8),
            t277=(2,),
            t338=(1,),
        ),
        "orientation_6.tiff": encode(upright_if_turned, "TIFF", exif=exif),
    }


def _refused() -> dict[str, bytes]:
    rgb = scene()
    whole = {
        "jpg": encode(rgb, "JPEG", quality=95),
        "png": encode(rgb, "PNG"),
        "webp": encode(rgb, "WEBP", quality=95),
        "gif": encode(rgb.quantize(64), "GIF"),
        "bmp": encode(rgb, "BMP"),
        "tiff": encode(rgb, "TIFF"),
    }
    whole["progressive.jpg"] = encode(rgb, "JPEG", quality=95, progressive=True)
    whole["lzw.tiff"] = encode(rgb, "TIFF", compression="tiff_lzw")
    cut = {f"half_of.{suffix}": data[: len(data) // 2] for suffix, data in whole.items()}
    cut |= {f"first_20_bytes_of.{suffix}": data[:20] for suffix, data in whole.items()}
    return cut | {
        "nearly_whole.jpg": whole["jpg"][:-200],
        "empty.jpg": b"",
        "text.jpg": b"This is not an image.\n",
        "page.png": b"<!doctype html><title>404</title>",
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>",
        "zeros.jpg": bytes(4096),
        "icon.ico": encode(rgb, "ICO"),
        "plain.ppm": encode(rgb, "PPM"),
        "over_20_mib.jpg": whole["jpg"] + bytes(20 * 2**20),
        "bomb_100_megapixels.png": encode(Image.new("1", (10_000, 10_000)), "PNG"),
        "bomb_4_gigapixels.png": claiming(whole["png"], 65_535, 65_535),
        "bomb_4_gigapixels.gif": whole["gif"][:6] + b"\xff\xff\xff\xff" + whole["gif"][10:],
        "bomb_10000_scans.jpg": repeating_its_last_scan(whole["progressive.jpg"], 10_000),
        "bomb_exif_segments.jpg": whole["jpg"][:2]
        + (b"\xff\xe1\x00\x28Exif\0\0" + bytes(32)) * 3000
        + whole["jpg"][2:],
        "bomb_empty_segments.jpg": whole["jpg"][:2] + b"\xff\xe5\0\2" * 3000 + whole["jpg"][2:],
        "bomb_junk.jpg": whole["jpg"][:2] + b"\xff\0" * 3000 + whole["jpg"][2:],
        "bomb_colour_profiles.png": whole["png"][:33]
        + b"\0\0\0\0iCCP\0\0\0\0" * 20
        + whole["png"][33:],
        "bomb_overlapping_strips.tiff": tiff(
            bytes(96 * 64 + 100), (96, 64), bits=8, t273=tuple(range(8, 108)), t278=(63,)
        ),
        "bomb_huge_tile.tiff": tiff(
            bytes(96 * 64), (96, 64), bits=8, t322=(2**16,), t323=(2**16,), t324=(8,)
        ),
        "strip_missing.tiff": tiff(bytes(96 * 64), (96, 64), bits=8, t278=(32,)),
        "floating_point.tiff": encode(Image.new("F", (8, 8), 0.5), "TIFF"),
        "signed_32_bit.tiff": encode(Image.new("I", (8, 8), 70_000), "TIFF"),
    }


def without_adobe_mark(jpeg: bytes) -> bytes:
    start = jpeg.index(b"\xff\xee")
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4]) :]


def claiming(png: bytes, width: int, height: int) -> bytes:
    """The same PNG with another size in its header, checksum and all."""
    header = b"IHDR" + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def repeating_its_last_scan(jpeg: bytes, times: int) -> bytes:
    start = jpeg.rindex(b"\xff\xda")
    return jpeg[:start] + jpeg[start:-2] * times + jpeg[-2:]
