"""Archives of rendered objects, in lavise/demo/renders: what each draws, and reading one.

An archive is ``STYLE.zip`` with entries ``category/code.webp``, transparent images cropped to what
they show, or ``STYLE.json.xz``, the drawings themselves as SVG by ``category/code``, a tenth of
the size. scripts/make_demo_data.py made them. ``noto`` is a third of the categories in a style that
is never taught, which shows what a mapper does with one that it never saw.
"""

import functools
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

import numpy as np
from PIL import Image

from lavise.errors import EnvironmentProblem, SpecError

TAUGHT_STYLES = ("fluent", "flat", "fluent", "twemoji", "fluent", "emojione")
"""Styles of the scenes that are taught, in turn: half of them the richest one."""
STYLES = (*dict.fromkeys(TAUGHT_STYLES), "noto")

_SIDE = 128  # pixels of a drawing's longer side
_SVG_SIDE = 192  # it is drawn larger first: the crop to what it shows comes next
_FAINT = 8  # alpha of a renderer's soft edge


@dataclass(frozen=True, eq=False)
class Archive:
    """The renders of a style.

    Attributes:
        members: Category to the names of its renders, in alphabetical order.
        read: A render by its name: RGBA, cropped to what it shows.
    """

    members: dict[str, list[str]]
    read: Callable[[str], Image.Image]


@functools.cache
def open_archive(style: str) -> Archive:
    """Opens a style's archive; it is held in memory, since forked workers share file positions.

    Raises:
        SpecError: The style is unknown.
    """
    if style not in STYLES:
        raise SpecError(
            f"Style {style!r} is unknown; it is one of {', '.join(STYLES)}.", field="style"
        )
    folder = resources.files("lavise.demo") / "renders"
    packed = folder / f"{style}.json.xz"
    if packed.is_file():
        drawings: dict[str, str] = json.loads(lzma.decompress(packed.read_bytes()))
        return Archive(_members(drawings), lambda name: cropped(draw_svg(drawings[name]), _SIDE))
    files = zipfile.ZipFile(io.BytesIO((folder / f"{style}.zip").read_bytes()))
    return Archive(_members(files.namelist()), lambda name: _decoded(files.read(name)))


def _members(names: list[str] | dict[str, str]) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {}
    for name in sorted(names):
        members.setdefault(name.partition("/")[0], []).append(name)
    return members


def _decoded(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGBA")


def draw_svg(svg: str) -> Image.Image:
    """Draws a picture.

    Args:
        svg: The drawing.

    Returns:
        RGBA, 192 pixels wide.

    Raises:
        EnvironmentProblem: resvg-py is not installed.
    """
    try:
        import resvg_py
    except ImportError as error:
        raise EnvironmentProblem(
            "the demo's drawings need the package resvg-py; install it with: "
            "pip install 'lavise[teach]'",
            field="dataset",
        ) from error
    png = resvg_py.svg_to_bytes(svg_string=svg, width=_SVG_SIDE, skip_system_fonts=True)
    return _decoded(bytes(png))


def cropped(render: Image.Image, side: int) -> Image.Image:
    """Crops to what is drawn and fits the longer side to ``side`` pixels."""
    rows, columns = np.nonzero(np.asarray(render.getchannel("A")) > _FAINT)
    left, top = int(columns.min()), int(rows.min())
    shown = render.crop((left, top, int(columns.max()) + 1, int(rows.max()) + 1))
    scale = side / max(shown.size)
    return shown.resize(
        (max(1, round(shown.width * scale)), max(1, round(shown.height * scale))),
        Image.Resampling.LANCZOS,
    )
