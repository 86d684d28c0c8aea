"""From a layer's counts to its part of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lavise.evaluate import report
from lavise.evaluate.bootstrap import Bootstrap
from lavise.evaluate.dissection import best_categories
from lavise.evaluate.label_scores import SCORES, Scores, score_labels
from lavise.evaluate.per_filter import FilterFacts, filter_rows
from lavise.evaluate.recall import CUTS
from lavise.evaluate.recall_rows import dissection_recall, method_recall
from lavise.evaluate.sanity import got_worse
from lavise.evaluate.soft_wpmi import soft_wpmi

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lavise.catalog_table import CatalogTable
    from lavise.evaluate.answers import Answers
    from lavise.evaluate.similarities import Similarities
    from lavise.evaluate.tally import LayerTally

_CATALOG_WORDS: Final = 10
_FEWEST_REGIONS: Final = 2
"""Of a category, from which it can be what a filter is most selective of."""


@dataclass(frozen=True)
class Judged:
    """What all layers share. n images that were read, K categories.

    Attributes:
        answers: What can be right.
        labels: (n, K) bool.
        half: (n,) 0 or 1.
        positions: (n,) of the images in the dataset.
        vocabulary: Words by id.
        seed: Of draws.
        similarities: Of the images of the dataset and concepts, where the caller has any.
    """

    answers: Answers
    labels: np.ndarray
    half: np.ndarray
    positions: Sequence[int]
    vocabulary: Sequence[str]
    seed: int
    similarities: Similarities | None = None


def summarise(tally: LayerTally, judged: Judged, catalog: CatalogTable | None) -> report.Layer:
    """Makes a layer's part of the report.

    Args:
        tally: The counts.
        judged: What they were counted on.
        catalog: Of the layer, if it was described.

    Returns:
        The part.
    """
    boot = Bootstrap(tally.entry.channels, seed=judged.seed)
    activation = tally.activation[: len(judged.labels)]
    # (C, k) categories, best first. Only the labels of the first half are judged: on the second.
    ranked = {"netdissect": best_categories(tally.dissection.iou(0), _CATALOG_WORDS)}
    if catalog is not None:
        ranked = {"catalog": _as_categories(catalog, judged)} | ranked
    if judged.similarities is not None:
        ranked["soft-wpmi"] = _by_similarity(activation, judged, judged.similarities)
    label = {source: _first(categories) for source, categories in ranked.items()}
    scores = {
        source: score_labels(activation, judged.labels, judged.half, one, seed=judged.seed)
        for source, one in label.items()
    }
    selective = _selective(tally)
    facts = FilterFacts(
        names=judged.answers.names,
        activation=activation,
        labels=judged.labels,
        positions=judged.positions,
        selective=selective,
        label=label.get("catalog"),
        scores={source: found.true for source, found in scores.items()},
    )
    return report.Layer(
        layer=tally.entry.name,
        filters=tally.entry.channels,
        recall=(
            *method_recall(tally, len(judged.vocabulary), boot),
            *dissection_recall(tally, boot),
        ),
        filter_words=tuple(_hits(source, one, selective, boot) for source, one in ranked.items()),
        labels=tuple(
            _scores(source, found, _chance(found, label[source], judged), boot)
            for source, found in scores.items()
        ),
        per_filter=tuple(filter_rows(tally, catalog, facts)),
    )


def _as_categories(catalog: CatalogTable, judged: Judged) -> np.ndarray:
    """(C, 10) categories that the catalog's words stand for; -1 for other words."""
    word_id = {word: i for i, word in enumerate(judged.vocabulary)}
    ranked = np.full((len(catalog.words), _CATALOG_WORDS), -1)
    for f, row in enumerate(catalog.words):
        for place, (word, _) in enumerate(row[:_CATALOG_WORDS]):
            ranked[f, place] = judged.answers.by_word.get(word_id.get(word, -1), -1)
    return ranked


def _by_similarity(activation: np.ndarray, judged: Judged, found: Similarities) -> np.ndarray:
    """(C, 10) categories that the concepts of the best soft-WPMI are; -1 for other concepts."""
    score = soft_wpmi(activation, found.values[list(judged.positions)])  # (C, T)
    best = np.argsort(-score, axis=1, kind="stable")[:, :_CATALOG_WORDS]
    places = {name: place for place, name in enumerate(judged.answers.names)}
    ranked = np.full((len(score), _CATALOG_WORDS), -1)
    ranked[:, : best.shape[1]] = found.categories(places)[best]
    return ranked


def _first(ranked: np.ndarray) -> np.ndarray:
    """(C,) the first category of each row that is one; -1 for none."""
    place = (ranked >= 0).argmax(axis=1)
    return np.asarray(np.take_along_axis(ranked, place[:, None], axis=1)[:, 0])


def _selective(tally: LayerTally) -> np.ndarray:
    """(C,) the category whose regions excite each filter most on average; -1 for none."""
    mean = tally.excited / np.maximum(tally.regions, 1)
    mean[:, tally.regions < _FEWEST_REGIONS] = 0.0
    return np.where(mean.max(axis=1) > 0, mean.argmax(axis=1), -1)


def _hits(
    source: str, ranked: np.ndarray, selective: np.ndarray, boot: Bootstrap
) -> report.FilterWords:
    counted = selective >= 0
    right = (ranked == selective[:, None]) & counted[:, None]
    hit = {
        str(k): report.Estimate.of(
            boot.ratio(right[:, :k].any(axis=1).astype(np.float64), counted.astype(np.float64))
        )
        for k in CUTS
        if k <= _CATALOG_WORDS
    }
    return report.FilterWords.model_validate(
        {"source": source, "filters": int(counted.sum()), "hit": hit}
    )


def _chance(found: Scores, label: np.ndarray, judged: Judged) -> float | None:
    """The mean share of measured images that have a scored filter's label."""
    scored = label[~np.isnan(found.true["auprc"])]
    share = judged.labels[judged.half == 1][:, scored]
    return float(share.mean()) if share.size else None


def _scores(
    source: str, found: Scores, chance: float | None, boot: Bootstrap
) -> report.LabelScores:
    def fell(after: dict[str, np.ndarray]) -> dict[str, float | None]:
        return {name: got_worse(found.true[name], after[name]) for name in SCORES}

    return report.LabelScores.model_validate(
        {
            "source": source,
            "filters": int((~np.isnan(found.true["auprc"])).sum()),
            "scores": {name: report.Estimate.of(boot.mean(found.true[name])) for name in SCORES},
            "chance_auprc": chance,
            "missing_labels": fell(found.missing_labels),
            "extra_labels": fell(found.extra_labels),
        }
    )
