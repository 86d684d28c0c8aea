"""Makes the demo's images again: the two archives of renders, the textures and the photograph.

Usage: python scripts/make_demo_data.py FLUENT NOTO

FLUENT and NOTO are the unpacked npm packages @lobehub/fluent-emoji-3d 1.1.0 and
@iconify-json/noto 1.2.9 (``npm pack NAME@VERSION``, then ``tar xzf``; the folder is called
``package``). The textures and the photograph come from the installed scikit-image. The same
packages and the same Pillow give the same bytes. Licences: lavise/demo/LICENSES.md.
"""

import argparse
import io
import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import resvg_py
import skimage.data
from PIL import Image

CATEGORIES = Path(__file__).with_name("demo_categories.txt")
DEMO = Path(__file__).parents[1] / "lavise" / "demo"
FLUENT_SIDE, FLUENT_QUALITY = 128, 82  # pixels of the longer side; WebP quality, alpha lossless
NOTO_SIDE, NOTO_QUALITY = 96, 82
NOTO_EVERY = 3  # an unbiased third of the categories, in alphabetical order
TEXTURE_SIDE = 256
MAX_ARCHIVES = 4 * 2**20  # bytes of both archives together


def main() -> None:
    """Write everything into lavise/demo and print the sizes."""
    parser = argparse.ArgumentParser(description="Make the demo's images again.")
    parser.add_argument("fluent", type=Path, help="unpacked @lobehub/fluent-emoji-3d")
    parser.add_argument("noto", type=Path, help="unpacked @iconify-json/noto")
    arguments = parser.parse_args()

    table = read_categories()
    fluent = [(category, code) for category, codes in table.items() for code in codes]
    noto = [(category, codes[0]) for category, codes in list(table.items())[::NOTO_EVERY]]

    archives = [
        write_archive(
            DEMO / "renders" / "fluent.zip",
            fluent,
            lambda code: Image.open(arguments.fluent / "assets" / f"{code}.webp").convert("RGBA"),
            side=FLUENT_SIDE,
            quality=FLUENT_QUALITY,
        ),
        write_archive(
            DEMO / "renders" / "noto.zip",
            noto,
            noto_renderer(arguments.noto),
            side=NOTO_SIDE,
            quality=NOTO_QUALITY,
        ),
    ]
    total = sum(archives)
    print(f"{len(table)} categories, {len(fluent)} + {len(noto)} renders, {total:,} bytes")
    if total > MAX_ARCHIVES:
        raise SystemExit(f"the archives take {total:,} bytes, over {MAX_ARCHIVES:,}: lower a side")

    for name in ("brick", "grass", "gravel"):
        half = photograph(name).resize((TEXTURE_SIDE, TEXTURE_SIDE), Image.Resampling.LANCZOS)
        half.save(DEMO / "textures" / f"{name}.jpg", quality=75, optimize=True)
    photograph("chelsea").save(DEMO / "chelsea.jpg", quality=90, optimize=True)


def photograph(name: str) -> Image.Image:
    """One of scikit-image's photographs."""
    return Image.fromarray(getattr(skimage.data, name)())


def read_categories() -> dict[str, list[str]]:
    """Category to code points, in alphabetical order of the categories."""
    lines = CATEGORIES.read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    return {category: codes for category, *codes in sorted(rows)}


def noto_renderer(package: Path) -> Callable[[str], Image.Image]:
    """A function that draws a code point in the Noto style."""
    icons = json.loads((package / "icons.json").read_text(encoding="utf-8"))
    names = json.loads((package / "chars.json").read_text(encoding="utf-8"))
    side = icons["width"]

    def draw(code: str) -> Image.Image:
        # The package leaves out U+FE0F, which only asks for the coloured form.
        body = icons["icons"][names[code.removesuffix("-fe0f")]]["body"]
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {side} {side}">{body}</svg>'
        )
        # Twice the final size: the crop to the drawing comes next.
        png = resvg_py.svg_to_bytes(svg_string=svg, width=2 * NOTO_SIDE, skip_system_fonts=True)
        return Image.open(io.BytesIO(bytes(png))).convert("RGBA")

    return draw


def write_archive(
    path: Path,
    renders: Iterable[tuple[str, str]],
    draw: Callable[[str], Image.Image],
    *,
    side: int,
    quality: int,
) -> int:
    """Write ``category/code.webp`` entries; returns the archive's size in bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for category, code in renders:
            # A fixed date (ZipInfo's default) keeps the archive the same from run to run.
            entry = zipfile.ZipInfo(f"{category}/{code}.webp")
            archive.writestr(entry, encode(draw(code), side=side, quality=quality))
    return path.stat().st_size


def encode(render: Image.Image, *, side: int, quality: int) -> bytes:
    """Crop to what is drawn, fit the longer side to ``side`` pixels, encode as WebP with alpha."""
    alpha = np.asarray(render.getchannel("A"))
    rows, columns = np.nonzero(alpha > 8)  # fainter pixels are the renderer's soft edge
    left, top = int(columns.min()), int(rows.min())
    cropped = render.crop((left, top, int(columns.max()) + 1, int(rows.max()) + 1))
    scale = side / max(cropped.size)
    fitted = cropped.resize(
        (max(1, round(cropped.width * scale)), max(1, round(cropped.height * scale))),
        Image.Resampling.LANCZOS,
    )
    buffer = io.BytesIO()
    fitted.save(buffer, "WEBP", quality=quality, method=5)  # 6: 1 % smaller, 70 x slower
    return buffer.getvalue()


if __name__ == "__main__":
    main()
