"""An evaluation as one self-contained HTML file: it loads nothing and runs no script."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import jinja2
from markupsafe import Markup

from lavise import report as comparison_page
from lavise.evaluate.gallery import shown_filters
from lavise.evaluate.wording import METHODS, SCORES, SOURCES
from lavise.report import wording
from lavise.report.pictures import overlay_uri, picture_uri
from lavise.report.scales import Scale

if TYPE_CHECKING:
    from lavise.evaluate.gallery import Heatmaps, Pictures
    from lavise.evaluate.report import Evaluation, Filter, Layer, TopImage

_HERE: Final = Path(__file__).parent
_STYLE: Final = Path(comparison_page.__file__).parent / "page.css"


@dataclass(frozen=True)
class Tile:
    """An image that excites a filter, as the page shows it.

    Attributes:
        picture: Data URI; empty where none is given.
        overlay: Data URI of its heat map; empty where there is none.
        image: What it is.
    """

    picture: str
    overlay: str
    image: TopImage


def render_page(evaluation: Evaluation, pictures: Pictures, heatmaps: Heatmaps) -> str:
    """Renders an evaluation.

    Args:
        evaluation: The result. Its names and words are shown as text, whatever they hold.
        pictures: Encoded images by position; where one is missing, its number is shown.
        heatmaps: How active a filter is at each place of an image; each is scaled to its maximum.

    Returns:
        The page.

    Raises:
        ImageError: A picture cannot be read, or a heat map is no matrix.
    """
    uris = {image: picture_uri(data, name=f"image {image}") for image, data in pictures.items()}
    layers = [
        (layer, [(one, _tiles(layer, one, uris, heatmaps)) for one in shown])
        for layer in evaluation.layers
        for shown in [shown_filters(layer, len(evaluation.layers))]
    ]
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            evaluation=evaluation,
            layers=layers,
            axis=Scale(0.0, 1.0, (0.0, 0.5, 1.0)),
            has_heat=bool(heatmaps),
        )
    )


def _tiles(layer: Layer, one: Filter, uris: dict[int, str], heatmaps: Heatmaps) -> list[Tile]:
    strongest = max((image.activation for image in one.top_images), default=0.0)
    tiles = []
    for image in one.top_images:
        picture = uris.get(image.image, "")
        heat = heatmaps.get((layer.layer, one.index, image.image))
        overlay = ""
        if picture and heat is not None:
            overlay = overlay_uri(
                heat,
                strength=image.activation / strongest,
                name=f"filter {one.index} on image {image.image}",
            )
        tiles.append(Tile(picture, overlay, image))
    return tiles


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,  # names and words come from outside
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for helper in (wording.brief, wording.count, wording.percent):
        environment.globals[helper.__name__] = helper
    environment.globals["number"] = _number
    environment.globals |= {"METHODS": METHODS, "SCORES": SCORES, "SOURCES": SOURCES}
    style = _STYLE.read_text(encoding="utf-8") + (_HERE / "page.css").read_text(encoding="utf-8")
    environment.globals["style"] = Markup(style)  # noqa: S704 - our own files
    return environment


def _number(value: float | None, digits: int = 3) -> str:
    """A number; a dash where there is none."""
    return wording.number(float("nan") if value is None else value, digits)
