"""A report message to one self-contained HTML file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jinja2
from markupsafe import Markup

from lavise.report import selection, wording
from lavise.report.pictures import overlay_uri, picture_uri
from lavise.report.scales import Scale, diverging_scale, share_scale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from lavise.report.selection import Side
    from lavise.v1.bias_pb2 import Example, FilterDifference, Report

_HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class Tile:
    """An example image as the page shows it.

    Attributes:
        picture: Data URI; empty where no picture is kept.
        overlay: Data URI of its heat map; empty where there is none.
        source: Its full name.
        value: Its score or activation.
    """

    picture: str
    overlay: str
    source: str
    value: float


def render_report(
    report: Report,
    pictures: Mapping[tuple[str, int], bytes] = {},
    heatmaps: Mapping[tuple[str, int, int], NDArray[np.generic]] = {},
) -> str:
    """Renders a comparison as one HTML file that loads nothing and runs no script.

    Args:
        report: The comparison. Its names and words are shown as text, whatever they hold.
        pictures: Encoded images by side (``a`` or ``b``) and index, those of `wanted_pictures`;
            where one is missing, the page shows the image's name.
        heatmaps: How active a filter is at each place of an image, (H, W), by side, index and
            filter; each is scaled to its own maximum.

    Returns:
        The page.

    Raises:
        ImageError: A picture cannot be read, or a heat map is no matrix.
    """
    gallery = _Gallery(pictures, heatmaps)
    template = _environment().get_template("page.html.jinja")
    return template.render(
        report=report,
        headline=wording.headline(report),
        names=wording.full_names(report),
        short=wording.short_names(report),
        **_words(report),
        **_cards(report, gallery),
    )


def _words(report: Report) -> dict[str, Any]:
    """The bar chart: groups of words and their axis."""
    groups = list(selection.bar_groups(report))
    bars = [one for group in groups for one in group.words]
    ends = list(chain.from_iterable((one.low, one.high, one.difference) for one in bars))
    return {
        "groups": groups,
        "word_axis": diverging_scale(ends),
        "word_digits": wording.digits_for([one.difference for one in report.words]),
        "by_word": selection.words_by_name(report),
    }


def _cards(report: Report, gallery: _Gallery) -> dict[str, Any]:
    """Findings and filters with their images, and the axes that their small plots share."""
    by_word = selection.words_by_name(report)
    findings = selection.shown_findings(report)
    filters = selection.shown_filters(report)
    leading = [by_word[one.words[0]] for one in findings if one.words and one.words[0] in by_word]
    context = {
        "findings": findings,
        "filters": filters,
        "finding_tiles": [
            {
                side: gallery.tiles(side, selection.finding_examples(one, by_word, side))
                for side in selection.SIDES
            }
            for one in findings
        ],
        "filter_tiles": [gallery.filter_tiles(one) for one in filters],
        "header_tiles": {
            side: gallery.tiles(side, selection.header_examples(report, side))
            for side in selection.SIDES
        },
        "score_axis": share_scale(chain.from_iterable((one.mean_a, one.mean_b) for one in leading)),
        "rate_axis": share_scale(chain.from_iterable((one.rate_a, one.rate_b) for one in filters)),
        "rate_difference_axis": diverging_scale(
            chain.from_iterable((one.low, one.high) for one in filters)
        ),
        "auroc_axis": Scale(0.0, 1.0, (0.0, 0.5, 1.0)),
        "has_rates": any(one.HasField("rate_a") for one in report.filters),
    }
    # Only now is it known whether any was missing, or has a heat map.
    return context | {"missing": sorted(gallery.missing), "has_heat": gallery.has_heat}


class _Gallery:
    """The pictures of a page, each read once."""

    def __init__(
        self,
        pictures: Mapping[tuple[str, int], bytes],
        heatmaps: Mapping[tuple[str, int, int], NDArray[np.generic]],
    ) -> None:
        self._pictures = pictures
        self._heatmaps = heatmaps
        self._uris: dict[tuple[Side, int], str] = {}
        self.missing: set[Side] = set()
        self.has_heat = False

    def tiles(self, side: Side, examples: Sequence[Example]) -> list[Tile]:
        return [Tile(self._picture(side, one), "", one.source, one.value) for one in examples]

    def filter_tiles(self, one: FilterDifference) -> dict[Side, list[Tile]]:
        """The images of a filter's card, heat maps on one scale for the whole card."""
        examples = {side: selection.filter_examples(one, side) for side in selection.SIDES}
        strongest = max(
            (each.value for each in chain(*examples.values()) if math.isfinite(each.value)),
            default=0.0,
        )
        return {
            side: [
                Tile(
                    self._picture(side, each),
                    self._overlay(side, each, one.index, strongest),
                    each.source,
                    each.value,
                )
                for each in examples[side]
            ]
            for side in selection.SIDES
        }

    def _picture(self, side: Side, example: Example) -> str:
        key = (side, example.index)
        if key not in self._uris:
            data = self._pictures.get(key)
            if data is None:
                self.missing.add(side)
                return ""
            name = f"image {example.index} of set {side.upper()}"
            self._uris[key] = picture_uri(data, name=name)
        return self._uris[key]

    def _overlay(self, side: Side, example: Example, index: int, strongest: float) -> str:
        heat = self._heatmaps.get((side, example.index, index))
        if heat is None or not self._picture(side, example):
            return ""
        self.has_heat = True
        return overlay_uri(
            heat,
            strength=example.value / strongest if strongest > 0 else 1.0,
            name=f"filter {index} on image {example.index} of set {side.upper()}",
        )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,  # names and words come from outside
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    helpers = (
        wording.brief, wording.count, wording.digits_for, wording.equals, wording.file_name,
        wording.level, wording.number, wording.p_value, wording.percent, wording.signed,
    )  # fmt: skip
    environment.globals.update({helper.__name__: helper for helper in helpers})
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    environment.globals["style"] = Markup(style)  # noqa: S704 - our own file
    return environment
