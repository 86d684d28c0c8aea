"""Features to teach on: every annotated region's mean feature, from one CNN pass an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lavise.attention import pool_under_mask
from lavise.errors import SpecError
from lavise.prefetch import batched, prefetch
from lavise.progress import Track, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lavise.teach.datasets import AnnotatedImage, Dataset

BATCH: Final = 16
_SATURATED_SHARE: Final = 0.1
"""Of a layer's filters that share one maximum, from which the layer counts as saturating."""


@dataclass
class LayerFeatures:
    """What one layer gave on a dataset. n regions, m images, C channels.

    Attributes:
        regions: (n, C) mean feature under each region's mask.
        images: (m, C) mean feature of each image.
        peak: (C,) max over everything seen.
        lowest: Least value of a region's or image's feature.
    """

    regions: np.ndarray
    images: np.ndarray
    peak: np.ndarray
    lowest: float

    def ceiling(self) -> float | None:
        """The value that the layer saturates at, or None: many filters reach one same maximum."""
        top = float(self.peak.max(initial=0.0))
        reached = int(np.sum(self.peak >= top * (1 - 1e-6)))
        saturates = reached > 1 and reached >= _SATURATED_SHARE * self.peak.size
        return top if top > 0 and saturates else None


@dataclass
class Features:
    """Features of a dataset on every tapped layer.

    Attributes:
        layers: By position, as cnn.onnx has them.
        category: (n,) positions in ``categories``, shared by all layers.
        image: (n,) the image that each region is of.
        logits: (m, K) of the CNN's head; (m, 0) without one.
        categories: Names.
    """

    layers: list[LayerFeatures]
    category: np.ndarray
    image: np.ndarray
    logits: np.ndarray
    categories: tuple[str, ...]


@dataclass
class _Gathered:
    regions: list[np.ndarray] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)
    peaks: list[np.ndarray] = field(default_factory=list)


def extract_features(
    session: Any,  # noqa: ANN401 - onnxruntime.InferenceSession, which has no types
    datasets: Sequence[Dataset],
    *,
    size: int,
    track: Track = silent,
) -> Features:
    """Runs a CNN over annotated images and pools each region's feature.

    Args:
        session: Of cnn.onnx.
        datasets: At least one; equal category names are one category.
        size: Input side S.
        track: Shows progress.

    Returns:
        The features.

    Raises:
        ImageError: An image cannot be read.
        SpecError: The CNN gives values that are not finite.
    """
    names = [output.name for output in session.get_outputs()]
    n_layers = sum(name.startswith("map_") for name in names)
    has_head = "logits" in names
    categories = tuple(dict.fromkeys(c for d in datasets for c in d.categories))
    position = {name: i for i, name in enumerate(categories)}
    gathered = [_Gathered() for _ in range(n_layers)]
    category: list[int] = []
    image: list[int] = []
    logits: list[np.ndarray] = []

    places = [(d, i) for d in datasets for i in range(len(d))]
    fetched = prefetch(lambda place: place[0].fetch(place[1], size), places)
    seen = 0
    for batch in batched(track(fetched, "features", len(places)), BATCH):
        outputs = dict(
            zip(
                names,
                session.run(None, {"images": np.stack([a.pixels for a in batch])}),
                strict=True,
            )
        )
        if has_head:
            logits.append(outputs["logits"])
        kept = _pool(batch, outputs, gathered)
        for i, annotated in enumerate(batch):
            for j, region in enumerate(annotated.regions):
                if (i, j) in kept:
                    category.append(position[region.category])
                    image.append(seen + i)
        seen += len(batch)
    return Features(
        layers=[_finish(layer) for layer in gathered],
        category=np.array(category, dtype=np.int64),
        image=np.array(image, dtype=np.int64),
        logits=np.concatenate(logits) if logits else np.zeros((seen, 0), dtype=np.float32),
        categories=categories,
    )


def _pool(
    batch: Sequence[AnnotatedImage],
    outputs: dict[str, np.ndarray],
    gathered: Sequence[_Gathered],
) -> set[tuple[int, int]]:
    """Pools every region of a batch on every layer; says which regions had an area."""
    kept: set[tuple[int, int]] = set()
    for position, layer in enumerate(gathered):
        maps = outputs[f"map_{position}"]
        if not np.isfinite(maps).all():
            raise SpecError(
                "the CNN gives values that are not finite: its weights are damaged, or overflow",
                field="cnn",
            )
        layer.images.append(outputs[f"mean_{position}"])
        layer.peaks.append(outputs[f"peak_{position}"].max(axis=0))
        for i, annotated in enumerate(batch):
            for j, region in enumerate(annotated.regions):
                pooled = pool_under_mask(maps[i], region.mask)
                if pooled is not None:
                    layer.regions.append(pooled)
                    kept.add((i, j))
    return kept


def _finish(layer: _Gathered) -> LayerFeatures:
    images = np.concatenate(layer.images)
    regions = (
        np.stack(layer.regions).astype(np.float32)
        if layer.regions
        else np.zeros((0, images.shape[1]), dtype=np.float32)
    )
    lowest = min(float(images.min()), float(regions.min(initial=np.inf)))
    return LayerFeatures(regions, images, np.max(layer.peaks, axis=0), lowest)
