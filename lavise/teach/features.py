"""Features to teach on: every annotated region's mean feature, from one CNN pass an image.

The pass is cut into parts of SHARD_IMAGES images. Each part stands for itself, so that parts can
be kept on disk, done anew or shared out one by one (lavise.teach.feature_cache).
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lavise.attention import pool_under_mask
from lavise.errors import SpecError
from lavise.prefetch import batched, prefetch
from lavise.progress import Track, silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lavise.teach.annotated import AnnotatedImage, Dataset
    from lavise.teach.shards import Rows

BATCH: Final = 16
SHARD_IMAGES: Final = 32 * BATCH
"""Images of a part; whole batches, so that every image meets the same ones however it is cut."""
_SATURATED_SHARE: Final = 0.1
"""Of a layer's filters that share one maximum, from which the layer counts as saturating."""

Part = dict[str, np.ndarray]
"""Arrays of one part: ``category`` and ``image`` (n,) int32, ``logits`` (m, K), and of the i-th
layer ``regions_i`` (n, C), ``images_i`` (m, C), ``peak_i`` (C,) and ``lowest_i`` (1,)."""


@dataclass
class LayerFeatures:
    """What one layer gave on a dataset. n regions, m images, C channels.

    Attributes:
        regions: (n, C) mean feature under each region's mask.
        images: (m, C) mean feature of each image.
        peak: (C,) max over everything seen.
        lowest: Least value of a region's or image's feature.
    """

    regions: Rows
    images: Rows
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
    logits: Rows
    categories: tuple[str, ...]


def extract_features(
    session: Any,  # noqa: ANN401 - onnxruntime.InferenceSession, which has no types
    datasets: Sequence[Dataset],
    *,
    size: int,
    workers: int = 2,
    track: Track = silent,
) -> Features:
    """Runs a CNN over annotated images and pools each region's feature; all is kept in memory.

    Args:
        session: Of cnn.onnx.
        datasets: At least one; equal category names are one category.
        size: Input side S.
        workers: Threads that read and decode images.
        track: Shows progress.

    Returns:
        The features.

    Raises:
        ImageError: An image cannot be read.
        SpecError: The CNN gives values that are not finite.
    """
    numbers = range(n_parts(datasets))
    made = extract_parts(session, datasets, numbers, size=size, workers=workers, track=track)
    parts = [part for _, part in made]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return assemble(parts, joined, datasets)


def n_parts(datasets: Sequence[Dataset]) -> int:
    """Into how many parts the pass over some datasets is cut."""
    return -(-sum(map(len, datasets)) // SHARD_IMAGES)


def extract_parts(
    session: Any,  # noqa: ANN401 - onnxruntime.InferenceSession, which has no types
    datasets: Sequence[Dataset],
    numbers: Sequence[int],
    *,
    size: int,
    workers: int = 2,
    track: Track = silent,
) -> Iterator[tuple[int, Part]]:
    """Makes some parts of the pass, one after the other; see extract_features.

    Args:
        session: Of cnn.onnx.
        datasets: At least one.
        numbers: The parts to make, in ascending order.
        size: Input side S.
        workers: Threads that read and decode images.
        track: Shows progress.

    Yields:
        Each part's number and arrays.
    """
    categories = {name: i for i, name in enumerate(category_names(datasets))}
    ends = list(itertools.accumulate(map(len, datasets)))

    def fetch(number: int) -> AnnotatedImage:
        which = bisect.bisect_right(ends, number)
        return datasets[which].fetch(number - ends[which] + len(datasets[which]), size)

    cuts = [range(n * SHARD_IMAGES, min((n + 1) * SHARD_IMAGES, ends[-1])) for n in numbers]
    wanted = itertools.chain.from_iterable(cuts)
    fetched = prefetch(fetch, wanted, workers=workers, ahead=BATCH * workers)
    images = iter(track(fetched, "features", sum(map(len, cuts))))
    for number, cut in zip(numbers, cuts, strict=True):
        own = itertools.islice(images, len(cut))
        yield number, _part(session, own, categories, first=cut.start)


def category_names(datasets: Sequence[Dataset]) -> tuple[str, ...]:
    """The categories of all datasets, each once, in the order in which they first come."""
    return tuple(dict.fromkeys(c for dataset in datasets for c in dataset.categories))


def assemble(
    parts: Sequence[Mapping[str, np.ndarray]],
    rows: Mapping[str, Any],
    datasets: Sequence[Dataset],
) -> Features:
    """Makes features of the parts of a pass.

    Args:
        parts: Each part's ``peak_i`` and ``lowest_i``.
        rows: All other arrays over all parts; ``category`` and ``image`` as arrays.
        datasets: What the pass was over.

    Returns:
        The features.
    """
    n_layers = sum(name.startswith("peak_") for name in parts[0])
    layers = [
        LayerFeatures(
            regions=rows[f"regions_{i}"],
            images=rows[f"images_{i}"],
            peak=np.max([part[f"peak_{i}"] for part in parts], axis=0),
            lowest=min(float(part[f"lowest_{i}"][0]) for part in parts),
        )
        for i in range(n_layers)
    ]
    return Features(
        layers, rows["category"], rows["image"], rows["logits"], category_names(datasets)
    )


def _part(
    session: Any,  # noqa: ANN401 - onnxruntime.InferenceSession, which has no types
    images: Iterator[AnnotatedImage],
    categories: Mapping[str, int],
    *,
    first: int,
) -> Part:
    """Runs the images of one part; ``first`` is the number of its first image."""
    names = [output.name for output in session.get_outputs()]
    n_layers = sum(name.startswith("map_") for name in names)
    category: list[int] = []
    image: list[int] = []
    gathered: dict[str, list[np.ndarray]] = {name: [] for name in names}
    regions: list[list[np.ndarray]] = [[] for _ in range(n_layers)]
    seen = first
    for batch in batched(images, BATCH):
        outputs = session.run(None, {"images": np.stack([a.pixels for a in batch])})
        found = dict(zip(names, outputs, strict=True))
        for name in names:
            if not name.startswith("map_"):  # maps are large, and not needed again
                gathered[name].append(found[name])
        kept = _pool(batch, [found[f"map_{i}"] for i in range(n_layers)], regions)
        category += [categories[batch[i].regions[j].category] for i, j in kept]
        image += [seen + i for i, _ in kept]
        seen += len(batch)
    part: Part = {
        "category": np.array(category, dtype=np.int32),
        "image": np.array(image, dtype=np.int32),
        "logits": np.zeros((seen - first, 0), dtype=np.float32),
    }
    if "logits" in names:
        part["logits"] = np.concatenate(gathered["logits"])
    for i, pooled in enumerate(regions):
        means = np.concatenate(gathered[f"mean_{i}"])
        stacked = np.stack(pooled).astype(np.float32) if pooled else means[:0]
        part[f"regions_{i}"], part[f"images_{i}"] = stacked, means
        part[f"peak_{i}"] = np.concatenate(gathered[f"peak_{i}"]).max(axis=0)
        lowest = min(float(means.min()), float(stacked.min(initial=np.inf)))
        part[f"lowest_{i}"] = np.array([lowest], dtype=np.float32)
    return part


def _pool(
    batch: Sequence[AnnotatedImage],
    maps: Sequence[np.ndarray],
    pooled: Sequence[list[np.ndarray]],
) -> list[tuple[int, int]]:
    """Pools every region of a batch on every layer.

    Returns:
        Positions (image, region) of those that had an area.
    """
    for of_layer in maps:
        if not np.isfinite(of_layer).all():
            raise SpecError(
                "the CNN gives values that are not finite: its weights are damaged, or overflow",
                field="cnn",
            )
    kept = []
    for i, annotated in enumerate(batch):
        for j, region in enumerate(annotated.regions):
            features = [pool_under_mask(of_layer[i], region.mask) for of_layer in maps]
            if all(feature is not None for feature in features):
                kept.append((i, j))
                for gathered, feature in zip(pooled, features, strict=True):
                    gathered.append(np.asarray(feature))
    return kept
