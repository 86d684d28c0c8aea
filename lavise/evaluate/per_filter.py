"""The rows of the report that tell of single filters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lavise.evaluate import report
from lavise.evaluate.recall import CUTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lavise.catalog_table import CatalogTable
    from lavise.evaluate.tally import LayerTally

_TOP_IMAGES: Final = 4
_WORDS: Final = 5


@dataclass(frozen=True)
class FilterFacts:
    """What is known of the filters of a layer. C filters, K categories, n images.

    Attributes:
        names: Of the categories.
        activation: (n, C).
        labels: (n, K) bool.
        positions: (n,) of the images in the dataset.
        selective: (C,) most selective category; -1 for none.
        label: (C,) category that the catalog names first; None without a catalog.
        scores: Source to score to (C,).
    """

    names: Sequence[str]
    activation: np.ndarray
    labels: np.ndarray
    positions: Sequence[int]
    selective: np.ndarray
    label: np.ndarray | None
    scores: Mapping[str, Mapping[str, np.ndarray]]


def filter_rows(
    tally: LayerTally, catalog: CatalogTable | None, facts: FilterFacts
) -> Iterator[report.Filter]:
    """Makes the rows.

    Args:
        tally: The counts of the layer.
        catalog: Of the layer, if it was described.
        facts: What else is known.

    Yields:
        A row a filter, by index.
    """
    iou = tally.dissection.iou(0, 1)
    best = iou.argmax(axis=1)
    counts = tally.recall["attention"]
    hits, pairs = counts.hits["all"][:, CUTS.index(5)], counts.pairs["all"]
    top = np.argsort(-facts.activation, axis=0, kind="stable")[:_TOP_IMAGES]  # (4, C)
    for f in range(tally.entry.channels):
        overlaps = float(iou[f, best[f]])
        yield report.Filter(
            index=f,
            threshold=float(tally.threshold[f]),
            pairs=int(pairs[f]),
            recall_at_5=float(hits[f] / pairs[f]) if pairs[f] else None,
            words=tuple(w for w, _ in catalog.words[f][:_WORDS]) if catalog else (),
            verdict=catalog.verdict[f] if catalog else "",
            label=None if facts.label is None else _name(facts, facts.label[f]),
            label_scores=_numbers(facts.scores.get("catalog", {}), f),
            netdissect=facts.names[int(best[f])] if overlaps > 0 else None,
            netdissect_iou=overlaps,
            netdissect_scores=_numbers(facts.scores["netdissect"], f),
            selective=_name(facts, facts.selective[f]),
            top_images=tuple(
                _image(facts, row, f) for row in top[:, f] if facts.activation[row, f] > 0
            ),
        )


def _name(facts: FilterFacts, category: int) -> str | None:
    return facts.names[category] if category >= 0 else None


def _numbers(scores: Mapping[str, np.ndarray], f: int) -> dict[str, float | None]:
    found = {name: float(values[f]) for name, values in scores.items()}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _image(facts: FilterFacts, row: int, f: int) -> report.TopImage:
    return report.TopImage(
        image=facts.positions[row],
        activation=float(facts.activation[row, f]),
        categories=tuple(facts.names[int(i)] for i in np.flatnonzero(facts.labels[row])),
    )
