"""The pass over a dataset: every image is read once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from lavise.errors import DatasetError, ImageError
from lavise.evaluate.tally import Sight
from lavise.prefetch import batched, prefetch
from lavise.progress import Track, silent
from lavise.quantiles import CellHistogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from lavise.evaluate.said import Speaker
    from lavise.evaluate.tally import LayerTally
    from lavise.manifest import LayerEntry
    from lavise.teach.datasets import AnnotatedImage, Dataset

BATCH: Final = 16
EXCEEDED: Final = 0.005
"""P(A_f > T_f) over the cells of the images (Yang et al., CVPR 2022, section 3.3)."""
_Seen = tuple[int, "AnnotatedImage", "Mapping[str, np.ndarray]", int]


def count(
    speaker: Speaker,
    dataset: Dataset,
    positions: Sequence[int],
    tallies: Sequence[LayerTally],
    places: Mapping[str, int],
    *,
    size: int,
    track: Track = silent,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[int], np.ndarray]:
    """Shows every image to every layer's tally.

    Args:
        speaker: Runs the graphs.
        dataset: The images.
        positions: Which of them, at least one.
        tallies: One a layer.
        places: Name to position of the K categories that can be right answers.
        size: Input side S.
        track: Shows progress.
        say: Told of images that could not be read; they are left out.

    Returns:
        Positions of the images that were read, and (n, K) bool, what is annotated on each.

    Raises:
        DatasetError: No image could be read.
        ImageError: The CNN gives values that are not finite.
    """
    read: list[int] = []
    labels = np.zeros((len(positions), len(places)), dtype=bool)
    images = _look(speaker, dataset, positions, "evaluation", size=size, track=track, say=say)
    for position, annotated, seen, i in images:
        sight = _sight(annotated, places)
        labels[len(read), sight.categories] = True
        for tally in tallies:
            tally.update(len(read), sight, seen, i, speaker)
        read.append(position)
    return read, labels[: len(read)]


def own_thresholds(
    speaker: Speaker,
    dataset: Dataset,
    positions: Sequence[int],
    layers: Sequence[LayerEntry],
    *,
    size: int,
    track: Track = silent,
) -> list[np.ndarray]:
    """T_f over the evaluated images themselves: a pass of its own, since counting needs them.

    Args:
        speaker: Runs the graphs.
        dataset: The images.
        positions: Which of them.
        layers: Of the bundle.
        size: Input side S.
        track: Shows progress.

    Returns:
        (C,) for each layer.

    Raises:
        DatasetError: No image could be read.
        ImageError: The CNN gives values that are not finite.
    """
    histograms = [CellHistogram(layer.channels) for layer in layers]
    for _, _, seen, i in _look(speaker, dataset, positions, "thresholds", size=size, track=track):
        for number, histogram in enumerate(histograms):
            maps = seen[f"map_{number}"][i]
            histogram.update(maps.reshape(1, len(maps), -1))
    return [histogram.quantile(1 - EXCEEDED) for histogram in histograms]


def _look(
    speaker: Speaker,
    dataset: Dataset,
    positions: Sequence[int],
    description: str,
    *,
    size: int,
    track: Track,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[_Seen]:
    """Position, image, and what the CNN gives for its batch."""

    def fetch(position: int) -> tuple[int, AnnotatedImage | ImageError]:
        try:
            return position, dataset.fetch(position, size)
        except ImageError as error:
            return position, error

    fetched = track(prefetch(fetch, positions), description, len(positions))
    some = False
    for batch in batched(_readable(fetched, say), BATCH):
        some = True
        seen = speaker.look(np.stack([image.pixels for _, image in batch]))
        for i, (position, image) in enumerate(batch):
            if not all(np.isfinite(values[i]).all() for values in seen.values()):
                raise ImageError(
                    f"the CNN gives values that are not finite for image {position} of "
                    f"{dataset.spec}: its weights are damaged, or overflow on this image",
                    field="dataset",
                )
            yield position, image, seen, i
    if not some:
        raise DatasetError(f"dataset {dataset.spec!r} has no readable image", field="dataset")


def _readable(
    fetched: Iterable[tuple[int, AnnotatedImage | ImageError]],
    say: Callable[[str], None],
) -> Iterator[tuple[int, AnnotatedImage]]:
    for position, image in fetched:
        if isinstance(image, ImageError):
            say(f"left out: {image.message}")
        else:
            yield position, image


def _sight(annotated: AnnotatedImage, places: Mapping[str, int]) -> Sight:
    """The image with those of its regions that can be a right answer."""
    regions = [r for r in annotated.regions if r.category in places and r.mask.any()]
    side = annotated.pixels.shape[0]
    masks = [r.mask for r in regions]
    return Sight(
        annotated.pixels,
        np.stack(masks) if masks else np.zeros((0, side, side), dtype=bool),
        np.array([places[r.category] for r in regions], dtype=np.int64),
    )
