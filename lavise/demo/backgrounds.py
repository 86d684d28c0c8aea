"""Backgrounds for the composed scenes: cheap, seeded, and different from scene to scene.

A background is a **field**, grey values from 0 to 255 over the image, painted with a **ramp** of
three random colours. Fields are gradients, value noise, blobs, stripes, checks, and crops of
three photographed textures (lavise/demo/textures, licences in lavise/demo/LICENSES.md).
"""

import functools
from importlib import resources

import numpy as np
import numpy.typing as npt
from PIL import Image

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

TEXTURES = ("brick", "grass", "gravel")


def compose_background(rng: np.random.Generator, size: int) -> Image.Image:
    """Draw one background.

    Args:
        rng: The source of chance.
        size: Side of the image in pixels.

    Returns:
        An RGB image of that size.
    """
    field = Image.fromarray(_FIELDS[int(rng.integers(len(_FIELDS)))](rng, size))
    field.putpalette(_ramp(rng).tobytes())
    return field.convert("RGB")


def _ramp(rng: np.random.Generator) -> Bytes:
    """(256, 3) colours, a palette: from one random colour over a second to a third."""
    stops = rng.uniform(20, 235, (3, 3))
    if rng.random() < 0.5:  # muted, as most of the world is
        stops += 0.7 * (stops.mean(axis=1, keepdims=True) - stops)
    position = np.linspace(0, 2, 256)
    channels = [np.interp(position, (0, 1, 2), stops[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).astype(np.uint8)


def _stretch(field: Floats) -> Bytes:
    """The same field over the whole range 0 to 255."""
    low, high = float(field.min()), float(field.max())
    return ((field - low) * (255.0 / max(high - low, 1e-6))).astype(np.uint8)


def _enlarge(field: Bytes, size: int) -> Bytes:
    return np.asarray(Image.fromarray(field).resize((size, size), Image.Resampling.BICUBIC))


def _axes(rng: np.random.Generator, size: int) -> tuple[Floats, Floats]:
    """Coordinates along two random perpendicular directions, in units of the side."""
    angle = rng.uniform(0, 2 * np.pi)
    line = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    x, y = line[None, :], line[:, None]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def _gradient(rng: np.random.Generator, size: int) -> Bytes:
    along, across = _axes(rng, size)
    bend = np.float32(rng.uniform(-1.5, 1.5))
    return _stretch(along + bend * across * across)


def _noise(rng: np.random.Generator, size: int) -> Bytes:
    """Value noise: random grids of growing fineness and falling weight."""
    side = 64  # the octaves are summed small, then enlarged once
    persistence = rng.uniform(0.4, 0.85)
    total = np.zeros((side, side), np.float32)
    for octave, cells in enumerate((3, 6, 12, 24, 48)):
        grid = rng.integers(0, 256, (cells, cells), dtype=np.uint8)
        total += np.float32(persistence**octave) * _enlarge(grid, side)
    return _enlarge(_stretch(total), size)


def _blobs(rng: np.random.Generator, size: int) -> Bytes:
    cells = int(rng.integers(3, 10))
    return _enlarge(rng.integers(0, 256, (cells, cells), dtype=np.uint8), size)


def _stripes(rng: np.random.Generator, size: int) -> Bytes:
    along, _ = _axes(rng, size)
    return _bands(rng, along)


def _checks(rng: np.random.Generator, size: int) -> Bytes:
    along, across = _axes(rng, size)
    first = _bands(rng, along)
    return first ^ _bands(rng, across) if rng.random() < 0.5 else first // 2 + first.T // 2


def _bands(rng: np.random.Generator, coordinate: Floats) -> Bytes:
    """Bands from soft to hard, 2 to 15 across the image."""
    hardness = np.float32(rng.uniform(60, 600))
    wave = np.sin(coordinate * np.float32(2 * np.pi * rng.uniform(2, 15)))
    bands: Bytes = np.clip(wave * hardness + 127.5, 0, 255).astype(np.uint8)
    return bands


def _texture(rng: np.random.Generator, size: int) -> Bytes:
    texture = _photographed(TEXTURES[int(rng.integers(len(TEXTURES)))])
    side = int(rng.integers(texture.shape[0] // 3, texture.shape[0]))
    top, left = (int(rng.integers(texture.shape[0] - side + 1)) for _ in range(2))
    crop = texture[top : top + side, left : left + side]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return _enlarge(np.ascontiguousarray(crop), size)


@functools.cache
def _photographed(name: str) -> Bytes:
    path = resources.files("lavise.demo") / "textures" / f"{name}.jpg"
    with path.open("rb") as stream, Image.open(stream) as image:
        return np.asarray(image.convert("L"))


# Textures and noise come twice: they are closest to what lies behind things in photographs.
_FIELDS = (_gradient, _noise, _noise, _blobs, _stripes, _checks, _texture, _texture)
