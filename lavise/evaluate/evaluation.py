"""Measures a bundle on a dataset: the paper's protocol, Network Dissection beside it, and more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lavise.catalog_table import read_catalog
from lavise.errors import DatasetError, RequestError
from lavise.evaluate import report
from lavise.evaluate.answers import Answers, find_answers
from lavise.evaluate.bootstrap import DRAWS, LEVEL
from lavise.evaluate.recall import CUTS, IOU
from lavise.evaluate.said import MASKED_PAIRS, Speaker
from lavise.evaluate.similarities import read_similarities
from lavise.evaluate.stream import EXCEEDED, count, own_thresholds
from lavise.evaluate.summary import Judged, summarise
from lavise.evaluate.tally import LayerTally
from lavise.progress import Track, silent
from lavise.teach.datasets import DemoDataset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Literal

    from lavise.bundle import Bundle
    from lavise.runtime import Device
    from lavise.teach.datasets import Dataset

_FEW_IMAGES = 1000


@dataclass(frozen=True)
class EvaluationOptions:
    """How to measure.

    Attributes:
        images: At most that many, drawn by lot; all when None.
        thresholds: Where T_f comes from: ``catalog``, or ``dataset``, the evaluated images
            themselves as in the paper, at the price of a pass of its own. None takes the catalog
            where every layer has one.
        unseen: Share of categories that teaching was to hold out; see lavise.evaluate.answers.
        seed: Of everything that is drawn.
        similarities: Table of similarities of images and concepts by an image-text model, for
            CLIP-Dissect's labels (lavise.evaluate.similarities).
    """

    images: int | None = None
    thresholds: Literal["catalog", "dataset"] | None = None
    unseen: float | None = None
    seed: int = 0
    similarities: Path | None = None


def evaluate(
    bundle: Bundle,
    dataset: Dataset,
    options: EvaluationOptions,
    *,
    device: Device = "auto",
    track: Track = silent,
    say: Callable[[str], None] = lambda _: None,
) -> report.Evaluation:
    """Measures a bundle.

    Args:
        bundle: Opened.
        dataset: With annotated images.
        options: How.
        device: Where the graphs run.
        track: Shows progress.
        say: Told of images that could not be read; they are left out.

    Returns:
        The result.

    Raises:
        DatasetError: Nothing in the dataset can be measured.
        ImageError: The CNN gives values that are not finite.
        RequestError: An option is out of range.
    """
    manifest = bundle.manifest
    layers, size, seed = manifest.cnn.layers, manifest.cnn.input_size, options.seed
    vocabulary = bundle.words()
    answers = find_answers(
        dataset.categories, vocabulary, manifest.mappers, unseen=options.unseen, seed=seed
    )
    positions = _drawn(dataset, options)
    similarities = (
        read_similarities(options.similarities, len(dataset)) if options.similarities else None
    )
    catalogs = [read_catalog(bundle, layer.name) for layer in layers]
    speaker = Speaker(bundle, device=device, top_k=CUTS[-1])
    described = [catalog.threshold for catalog in catalogs if catalog is not None]
    source = options.thresholds or ("catalog" if len(described) == len(layers) else "dataset")
    if source == "catalog" and len(described) < len(layers):
        raise RequestError(
            "thresholds are to come from the catalog, and a layer of the bundle has none: run "
            "`lavise catalog`, or take them from the dataset",
            field="thresholds",
        )
    thresholds = (
        described
        if source == "catalog"
        else own_thresholds(speaker, dataset, positions, layers, size=size, track=track)
    )
    half = _halves(len(positions), seed)
    tallies = [
        LayerTally(layer, number, threshold, answers, half, seed=seed)
        for number, (layer, threshold) in enumerate(zip(layers, thresholds, strict=True))
    ]
    places = {name: i for i, name in enumerate(answers.names)}
    read, labels = count(
        speaker, dataset, positions, tallies, places, size=size, track=track, say=say
    )
    judged = Judged(answers, labels, half[: len(read)], read, vocabulary, seed, similarities)
    return report.Evaluation(
        model=manifest.name,
        bundle_digest=bundle.digest,
        measured=_measured(dataset, answers, labels, len(positions) - len(read)),
        settings=report.Settings(
            seed=seed,
            iou=IOU,
            exceeded=EXCEEDED,
            thresholds=source,
            unseen=options.unseen,
            annotation_rate=min(mapper.annotation_rate for mapper in manifest.mappers),
            bootstrap_draws=DRAWS,
            level=LEVEL,
        ),
        notes=_notes(bundle, dataset, answers, len(read)),
        layers=tuple(
            summarise(tally, judged, catalog)
            for tally, catalog in zip(tallies, catalogs, strict=True)
        ),
    )


def _drawn(dataset: Dataset, options: EvaluationOptions) -> list[int]:
    """Positions in the dataset, in order: a dataset may be sorted by category."""
    if options.images is not None and options.images < 1:
        raise RequestError(f"images is {options.images}; accepted: 1 or more", field="images")
    total = len(dataset)
    if not total:
        raise DatasetError(f"dataset {dataset.spec!r} has no image", field="dataset")
    drawn = np.random.default_rng(options.seed).permutation(total)[: options.images]
    return [int(i) for i in np.sort(drawn)]


def _halves(n: int, seed: int) -> np.ndarray:
    half = np.arange(n) % 2
    np.random.default_rng([seed, 1]).shuffle(half)
    return half


def _measured(
    dataset: Dataset, answers: Answers, labels: np.ndarray, left_out: int
) -> report.Measured:
    return report.Measured(
        dataset=dataset.spec,
        images=len(labels),
        left_out=left_out,
        categories=len(answers.names),
        outside_vocabulary=answers.outside,
        seen=int(answers.groups["seen"].sum()),
        unseen=int(answers.groups["unseen"].sum()),
        annotations=int(labels.sum()),
    )


def _notes(bundle: Bundle, dataset: Dataset, answers: Answers, images: int) -> tuple[str, ...]:
    manifest = bundle.manifest
    notes: list[str] = [*answers.notes, *dataset.notes]
    taught = {spec for mapper in manifest.mappers for spec in mapper.datasets}
    # Composed scenes have splits that share none.
    apart = isinstance(dataset, DemoDataset) and dataset.split != "teach"
    if dataset.spec in taught and not apart:
        notes.append(
            f"The bundle was taught on {dataset.spec}: it knows most of these images, and the "
            "numbers flatter it. Measure on images that were kept from teaching."
        )
    if answers.outside:
        names: Sequence[str] = answers.outside[:5]
        more = ", ..." if len(answers.outside) > len(names) else ""
        one = len(answers.outside) == 1
        what = "1 category is no word" if one else f"{len(answers.outside)} categories are no words"
        notes.append(
            f"{what} of the vocabulary and {'counts' if one else 'count'} neither as right nor as "
            f"wrong: {', '.join(names)}{more}."
        )
    if images < _FEW_IMAGES:
        notes.append(
            f"{images:,} images are few: a category on one or two of them says little of a filter."
        )
    if len(manifest.catalogs) < len(manifest.cnn.layers):
        notes.append("A layer has no catalog: its filters have no words over a probe set.")
    notes.append(
        f"The method image is measured on at most {MASKED_PAIRS} filters an image, drawn by lot."
    )
    return tuple(notes)
