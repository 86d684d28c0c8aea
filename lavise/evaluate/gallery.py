"""Which filters a page shows, and the pictures that it needs for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from lavise.images import encode_jpeg
from lavise.options import ExplainOptions

if TYPE_CHECKING:
    from lavise.evaluate.report import Evaluation, Filter, Layer
    from lavise.explainer import Explainer
    from lavise.teach.datasets import Dataset

MAX_FILTERS: Final = 20
"""On a page, over all layers, so that it stays below 5 MB."""

Pictures = dict[int, bytes]
"""Encoded images by position in the dataset."""
Heatmaps = dict[tuple[str, int, int], np.ndarray]
"""(H, W) by layer, filter and image."""


def shown_filters(layer: Layer, n_layers: int) -> list[Filter]:
    """The filters of a layer that a page shows: from best to worst, evenly spaced.

    Args:
        layer: What was measured of it.
        n_layers: That share the page.

    Returns:
        Filters by the AUPRC of their label, best first; those without come after, by recall.
    """
    alive = [one for one in layer.per_filter if one.top_images]
    alive.sort(key=_order, reverse=True)
    scored = sum(_auprc(one) is not None for one in alive)
    n = max(1, MAX_FILTERS // n_layers)
    # Only where few have a score do others fill the page.
    among = alive[: max(scored, n)]
    places = np.linspace(0, len(among) - 1, min(n, len(among))).round().astype(int)
    return [among[place] for place in places]


def _auprc(one: Filter) -> float | None:
    return one.label_scores.get("auprc", one.netdissect_scores.get("auprc"))


def _order(one: Filter) -> tuple[float, float]:
    auprc = _auprc(one)
    return (-1.0 if auprc is None else auprc, one.recall_at_5 or 0.0)


def gather(
    evaluation: Evaluation, dataset: Dataset, explainer: Explainer
) -> tuple[Pictures, Heatmaps]:
    """Reads the images of the shown filters again and finds where each filter is active.

    Args:
        evaluation: The result.
        dataset: That it was measured on.
        explainer: Of the bundle that was measured.

    Returns:
        Pictures and heat maps.
    """
    asked: dict[int, dict[str, list[int]]] = {}
    for layer in evaluation.layers:
        for one in shown_filters(layer, len(evaluation.layers)):
            for top in one.top_images:
                filters = asked.setdefault(top.image, {}).setdefault(layer.layer, [])
                filters.append(one.index)
    pictures: Pictures = {}
    heatmaps: Heatmaps = {}
    for image, layers in sorted(asked.items()):
        pixels = dataset.fetch(image, explainer.input_size).pixels
        pictures[image] = encode_jpeg(pixels)
        for name, filters in layers.items():
            options = ExplainOptions(layer=name, filters=tuple(filters), heatmaps=True)
            [found] = explainer.explain([pixels], options)
            if found.heatmaps is not None:
                for index, heat in zip(filters, found.heatmaps, strict=True):
                    heatmaps[name, index, image] = heat
    return pictures, heatmaps
