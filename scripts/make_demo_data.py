"""Makes the demo's images again: the archives of renders, the textures and the photograph.

Usage: python scripts/make_demo_data.py FLUENT NOTO FLAT TWEMOJI EMOJIONE

These are the unpacked npm packages @lobehub/fluent-emoji-3d 1.1.0, @iconify-json/noto 1.2.9,
@iconify-json/fluent-emoji-flat 1.2.6, @iconify-json/twemoji 1.2.5 and @iconify-json/emojione 1.2.3
(``npm pack NAME@VERSION``, then ``tar xzf``; the folder is called ``package``). The textures and
the photograph come from the installed scikit-image. The same packages and the same Pillow give the
same bytes. Licences: lavise/demo/LICENSES.md.
"""

import argparse
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import skimage.data
from PIL import Image

from lavise.demo.renders import cropped, draw_svg

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
    for style in ("fluent", "noto", "flat", "twemoji", "emojione"):
        parser.add_argument(style, type=Path, help=f"unpacked package of the {style} style")
    asked = parser.parse_args()

    table = read_categories()
    fluent = [(category, code) for category, codes in table.items() for code in codes]
    noto = [(category, codes[0]) for category, codes in list(table.items())[::NOTO_EVERY]]

    svg = drawings(asked.noto)
    archives = [
        write_archive(
            DEMO / "renders" / "fluent.zip",
            fluent,
            lambda code: Image.open(asked.fluent / "assets" / f"{code}.webp").convert("RGBA"),
            side=FLUENT_SIDE,
            quality=FLUENT_QUALITY,
        ),
        write_archive(
            DEMO / "renders" / "noto.zip",
            noto,
            lambda code: draw_svg(svg[code.removesuffix("-fe0f")]),
            side=NOTO_SIDE,
            quality=NOTO_QUALITY,
        ),
    ]
    for style in ("flat", "twemoji", "emojione"):
        # emojione lists no code points; its drawings have the names that twemoji's have.
        svg = drawings(getattr(asked, style), asked.twemoji if style == "emojione" else None)
        archives.append(write_drawings(DEMO / "renders" / f"{style}.json.xz", fluent, svg))
    total = sum(archives)
    print(f"{len(table)} categories, {total:,} bytes: {', '.join(map(str, archives))}")
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


def drawings(package: Path, naming: Path | None = None) -> dict[str, str]:
    """SVG by code point, of a package of Iconify's; code points as another one names them."""
    icons = json.loads((package / "icons.json").read_text(encoding="utf-8"))
    names = json.loads(((naming or package) / "chars.json").read_text(encoding="utf-8"))
    side = icons["width"]
    found = {}
    for code, name in names.items():
        if name in icons["icons"]:
            found[code] = (
                '<svg xmlns="http://www.w3.org/2000/svg" '
                'xmlns:xlink="http://www.w3.org/1999/xlink" '
                f'viewBox="0 0 {side} {side}">{icons["icons"][name]["body"]}</svg>'
            )
    return found


def write_drawings(path: Path, renders: Iterable[tuple[str, str]], svg: dict[str, str]) -> int:
    """Write the drawings of the renders that there are; returns the archive's size in bytes."""
    # The packages leave out U+FE0F, which only asks for the coloured form.
    some = {
        f"{category}/{code}": svg[code.removesuffix("-fe0f")]
        for category, code in renders
        if code.removesuffix("-fe0f") in svg
    }
    path.write_bytes(lzma.compress(json.dumps(some).encode(), preset=9 | lzma.PRESET_EXTREME))
    return path.stat().st_size


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
    buffer = io.BytesIO()
    fitted = cropped(render, side)
    fitted.save(buffer, "WEBP", quality=quality, method=5)  # 6: 1 % smaller, 70 x slower
    return buffer.getvalue()


if __name__ == "__main__":
    main()
