"""The result of an evaluation, as JSON has it: a stable form, `lavise.evaluation.v1`.

Numbers are plain and finite; what is not defined is null. Positions count from 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from lavise.evaluate import bootstrap

Source = Literal["catalog", "netdissect", "soft-wpmi"]
"""Whose words a filter is judged by: the bundle's catalog; Network Dissection's label; or what
CLIP-Dissect's soft-WPMI makes of similarities that the caller gave (lavise.evaluate.soft_wpmi)."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Estimate(_Part):
    """A number with its 95 % interval (bootstrap over filters); null where nothing was counted."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, found: bootstrap.Estimate) -> Estimate:
        """From floats that may be NaN."""
        value, low, high = (
            x if math.isfinite(x) else None for x in (found.value, found.low, found.high)
        )
        return cls(value=value, low=low, high=high)


class Recall(_Part):
    """Recall of filter-image pairs by one method (lavise.evaluate.recall)."""

    method: str
    """attention, attention-paper, attention-code, activation, original, image; netdissect (one
    label for all images, chosen on these very images, as published) and netdissect-other-half
    (chosen on the half of the images that the pair is not of)."""
    categories: Literal["all", "seen", "unseen"]
    pairs: int
    filters: int
    """Those with a pair."""
    candidates: int
    """Words that a method chooses from: the vocabulary, or the dataset's categories."""
    recall: dict[str, Estimate]
    """By k: 1, 5, 10, 20."""
    missing_labels: dict[str, float | None] | None = None
    """By k: the share of filters whose recall@k falls when half of the right answers are taken
    away; only for all categories, and not for netdissect."""
    extra_labels: dict[str, float | None] | None = None
    """The same when as many wrong answers are added."""


class FilterWords(_Part):
    """Share of filters whose k first words hold their most selective category."""

    source: Source
    filters: int
    hit: dict[str, Estimate]


class LabelScores(_Part):
    """How well activations follow the label that a source gives a filter, mean over filters."""

    source: Source
    filters: int
    """Those whose label is a category of the dataset, found on both halves of the images."""
    scores: dict[str, Estimate]
    """auprc, f1, correlation, auroc."""
    chance_auprc: float | None
    """What an activation that knows nothing reaches: the share of images with the label."""
    missing_labels: dict[str, float | None]
    """The share of filters whose score falls when half of the labelled images lose the label."""
    extra_labels: dict[str, float | None]
    """The same when as many other images get it."""


class TopImage(_Part):
    """An image that excites a filter much."""

    image: int
    """Position in the dataset."""
    activation: float
    categories: tuple[str, ...]
    """What is annotated on it."""


class Filter(_Part):
    """One filter. ``label`` is the first of its words that is a category of the dataset."""

    index: int
    threshold: float
    pairs: int
    recall_at_5: float | None
    """Of the method attention, over its pairs."""
    words: tuple[str, ...]
    """Of the catalog; none without one."""
    verdict: str
    label: str | None
    label_scores: dict[str, float | None]
    netdissect: str | None
    """Category of the best IoU over all images."""
    netdissect_iou: float
    netdissect_scores: dict[str, float | None]
    """Of the label that the first half of the images gives."""
    selective: str | None
    """Category whose regions excite it most, on average."""
    top_images: tuple[TopImage, ...]


class Layer(_Part):
    """What was measured of one layer."""

    layer: str
    filters: int
    recall: tuple[Recall, ...]
    filter_words: tuple[FilterWords, ...]
    labels: tuple[LabelScores, ...]
    per_filter: tuple[Filter, ...]


class Measured(_Part):
    """What it was measured on."""

    dataset: str
    images: int
    left_out: int
    """Images that could not be read."""
    categories: int
    """Of the dataset, those among the words of the vocabulary: the only right answers."""
    outside_vocabulary: tuple[str, ...]
    """Its other categories."""
    seen: int
    unseen: int
    annotations: int
    """Pairs of an image and a category that is on it."""


class Settings(_Part):
    """What could have been chosen otherwise."""

    seed: int
    iou: float
    exceeded: float
    thresholds: Literal["catalog", "dataset"]
    """Where T_f comes from."""
    unseen: float | None
    annotation_rate: float
    bootstrap_draws: int
    level: float


class Evaluation(_Part):
    """A bundle measured on a dataset."""

    form: Literal["lavise.evaluation.v1"] = "lavise.evaluation.v1"
    model: str
    bundle_digest: str
    measured: Measured
    settings: Settings
    notes: tuple[str, ...]
    """What a reader must know to read the numbers right."""
    layers: tuple[Layer, ...]
