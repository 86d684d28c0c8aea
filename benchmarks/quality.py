"""Rows on how good the words are: held-out scenes, beside the paper's recipe, and photographs.

Everything is measured on scenes of the split ``held-out`` (three seeds; the spread is over them),
which neither teaching nor the catalog has seen. The paper's recipe runs in the same harness on the
same scenes: its mapper (regression, hinge loss, Adam 1e-4) taught on the same teaching scenes, its
attention formula, and its votes (25 images by maximum, five words each, weighted by activation).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.harness import BUILD, Row, at_least
from benchmarks.material import bundle
from benchmarks.photographs import LABELS, is_right, photograph
from lavise.catalog import load_vocabulary, make_catalog
from lavise.demo.scenes import Scenes
from lavise.explainer import Explainer
from lavise.filter_words import VOTE_TEMPERATURE
from lavise.image_set import ImageSet
from lavise.images import prepare
from lavise.options import ExplainOptions
from lavise.runtime import open_session
from lavise.teach.datasets import DemoDataset
from lavise.teach.evaluation import recall_at
from lavise.teach.features import extract_features
from lavise.teach.training import PAPER_RECIPE, Examples, train_regression
from lavise.word_scores import WordScores

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.harness import Bench
    from lavise.bundle import Bundle
    from lavise.mapper import MapperWeights
    from lavise.teach.features import Features
    from lavise.words import WordVectors

SEEDS: Final = (1, 2, 3)
_SCENES: Final = 1800
_PAIR_SCENES: Final = 60
_PROBE_SCENES: Final = 600
_IOU: Final = 0.04
_SIDE: Final = 56
_LAYER: Final = 0


def words_rows() -> Iterable[Row]:
    """Recall of objects and of filter-image pairs, hits of filter words, on held-out scenes."""
    found = described()
    explainer = Explainer(found)
    vocabulary = load_vocabulary(found)
    paper = _paper_mapper(found, vocabulary)
    held = [held_out(seed) for seed in SEEDS]

    ours = [_object_recall(_mapper(found), one, vocabulary) for one in held]
    theirs = [_object_recall(paper, one, vocabulary) for one in held]
    for k, bar in ((1, 0.39), (5, 0.55)):
        yield at_least(
            f"recall-objects@{k}",
            [one[f"recall@{k}"] for one in ours],
            bar=bar,
            unit="",
            baseline=f"the paper's recipe: {np.median([t[f'recall@{k}'] for t in theirs]):.3f}",
        )
    pairs = [_pair_recall(explainer, paper, vocabulary, seed) for seed in SEEDS]
    yield at_least(
        "recall-filter-images@5",
        [ours for ours, _ in pairs],
        bar=0.45,
        unit="",
        baseline=f"the paper's recipe: {np.median([theirs for _, theirs in pairs]):.3f}",
    )
    hits, paper_hits = filter_word_hits(held)
    yield at_least(
        "filter-words-hit@10",
        hits,
        bar=0.40,
        unit="",
        baseline="each filter's most selective category; the paper's recipe: "
        f"{np.median(paper_hits):.3f}",
    )


def filter_word_hits(held: Sequence[Features]) -> tuple[list[float], list[float]]:
    """Share of filters whose ten words hold their most selective category.

    Args:
        held: Features of held-out scenes, a part a seed.

    Returns:
        Of the catalog's words, and of the words that the paper's recipe finds, by seed.
    """
    found = described()
    explainer = Explainer(found)
    catalog = explainer.catalog()
    assert catalog is not None, "the bundle was described"
    vocabulary = load_vocabulary(found)
    paper_words = _paper_filter_words(explainer, _paper_mapper(found, vocabulary), vocabulary)
    own_words = [[word for word, _ in row] for row in catalog.words]
    selective = [_selective(one, vocabulary) for one in held]
    return [_hits(own_words, one) for one in selective], [
        _hits(paper_words, one) for one in selective
    ]


def photograph_rows() -> Iterable[Row]:
    """The right noun among ten words, on photographs that no teaching saw; prints them all."""
    explainer = Explainer(described())
    table = Table(title="Photographs", show_lines=True)
    for heading in ("photograph", "", "ten words", "the CNN itself"):
        table.add_column(heading)
    right = []
    for name in LABELS:
        words, labels = image_words(explainer, prepare(photograph(name), explainer.input_size))
        right.append(is_right(LABELS[name], words))
        mark = "[green]right[/]" if right[-1] else "[red]wrong[/]"
        table.add_row(name, mark, ", ".join(words), ", ".join(labels))
    Console().print(table)
    share = float(np.mean(right))
    yield at_least(
        "photographs-hit@10",
        [share],
        bar=0.60,
        unit="",
        baseline=f"{sum(right)} of {len(right)} photographs labelled by hand, see "
        "benchmarks/photographs.py",
    )


def image_words(
    explainer: Explainer, image: np.ndarray, *, filters: int = 20, words: int = 10
) -> tuple[list[str], list[str]]:
    """The words of an image: its most active filters vote.

    Args:
        explainer: Of the bundle.
        image: Prepared.
        filters: How many vote.
        words: How many come out.

    Returns:
        The words, best first, and the CNN's own three best labels.
    """
    options = ExplainOptions(most_active=filters, top_k=len(explainer.vocabulary))
    [found] = explainer.explain([image], options)
    total = np.zeros(len(explainer.vocabulary))
    for row in np.flatnonzero(~found.inactive):
        share = np.exp((found.scores[row] - found.scores[row, 0]) / VOTE_TEMPERATURE)
        total[found.word_ids[row]] += share / share.sum()
    best = np.argsort(-total)[:words]
    return [explainer.vocabulary[i] for i in best], [n for n, _ in found.predictions()[:3]]


@cache
def described() -> Bundle:
    """The benchmarked bundle; with a catalog over composed scenes."""
    found = bundle()
    if found.manifest.catalogs:
        return found
    scenes = Scenes(range(2000), seed=0, split="probe", size=found.manifest.cnn.input_size)
    names = [f"scene-{i:04}" for i in range(len(scenes))]
    return make_catalog(found, ImageSet("demo scenes", names, lambda i: scenes[i].image))


def _session(found: Bundle) -> Any:  # noqa: ANN401 - onnxruntime has no types
    return open_session(found.path / "cnn.onnx")


def _mapper(found: Bundle) -> MapperWeights:
    from lavise.catalog import load_mapper

    return load_mapper(found, found.manifest.mappers[_LAYER])


@cache
def held_out(seed: int, style: str = "fluent", scenes: int = _SCENES) -> Features:
    """Features of scenes that neither teaching nor the catalog has seen.

    Args:
        seed: Of the scenes.
        style: Of the renders.
        scenes: How many.

    Returns:
        Their features, as the benchmarked bundle's CNN sees them.
    """
    found = described()
    dataset = DemoDataset(seed, n_scenes=scenes, split="held-out", styles=(style,))
    return extract_features(_session(found), [dataset], size=found.manifest.cnn.input_size)


def _object_recall(
    mapper: MapperWeights, features: Features, vocabulary: WordVectors
) -> dict[str, float]:
    names = [features.categories[i] for i in features.category]
    score = WordScores.of(mapper, vocabulary)
    return recall_at(score, features.layers[_LAYER].regions[:], names, vocabulary)


def _paper_mapper(found: Bundle, vocabulary: WordVectors) -> MapperWeights:
    """The paper's mapper, taught on the scenes that the bundle was taught on."""
    place = BUILD / "paper-features.npz"
    dataset = DemoDataset(found.manifest.mappers[_LAYER].seed)
    if not place.is_file():
        taught = extract_features(_session(found), [dataset], size=found.manifest.cnn.input_size)
        BUILD.mkdir(parents=True, exist_ok=True)
        np.savez(place, x=taught.layers[_LAYER].regions[:], category=taught.category)
    stored = np.load(place)  # plain arrays: nothing in it is unpickled
    # The same words and the same space as ours, so that only the recipe differs.
    kept = [i for i, name in enumerate(dataset.categories) if name in vocabulary.index]
    position = np.full(len(dataset.categories), -1)
    position[kept] = np.arange(len(kept))
    some = position[stored["category"]] >= 0
    E = np.stack([vocabulary.vectors[vocabulary.index[dataset.categories[i]]] for i in kept])
    return train_regression(
        Examples(stored["x"][some], position[stored["category"][some]]),
        E,
        tuple(dataset.categories[i] for i in kept),
        seed=0,
        recipe=PAPER_RECIPE,
    )


@dataclass(frozen=True)
class _Pair:
    """Filters of one image, with the categories that each one's mask overlaps."""

    filters: np.ndarray
    categories: list[set[str]]


def _pairs(
    maps: np.ndarray,
    threshold: np.ndarray,
    ceiling: float | None,
    regions: list[tuple[str, np.ndarray]],
) -> _Pair:
    """Filters whose mask {A_f > T_f}, enlarged bilinearly, overlaps an object: IoU > 0.04."""
    peak = maps.max(axis=(1, 2))
    cut = np.minimum(threshold, np.inf if ceiling is None else np.nextafter(np.float32(ceiling), 0))
    alive = np.flatnonzero(peak > cut)
    large = torch.nn.functional.interpolate(
        torch.from_numpy(maps[alive])[None], size=(_SIDE, _SIDE), mode="bilinear"
    )[0].numpy()
    masks = (large > cut[alive, None, None]).reshape(alive.size, -1)
    matched: list[set[str]] = [set() for _ in alive]
    for category, mask in regions:
        step = mask.shape[0] // _SIDE
        small = mask[step // 2 :: step, step // 2 :: step].ravel()
        both = masks @ small.astype(np.float32)
        either = masks.sum(axis=1) + small.sum() - both
        for row in np.flatnonzero(both > _IOU * either):
            matched[row].add(category)
    kept = [row for row, categories in enumerate(matched) if categories]
    return _Pair(alive[kept], [matched[row] for row in kept])


def _pair_recall(
    explainer: Explainer, paper: MapperWeights, vocabulary: WordVectors, seed: int
) -> tuple[float, float]:
    """recall@5 of filter-image pairs, ours and the paper's (paper, section 4.1)."""
    session = _session(explainer.bundle)
    catalog, layer = explainer.catalog(), explainer.layer()
    assert catalog is not None, "the bundle was described"
    ours: list[float] = []
    theirs: list[float] = []
    for scene in Scenes(range(_PAIR_SCENES), seed=seed, split="held-out"):
        [maps] = session.run([f"map_{_LAYER}"], {"images": scene.image[None]})
        regions = [(o.category, o.mask) for o in scene.objects]
        pair = _pairs(maps[0], catalog.threshold, layer.ceiling, regions)
        if not pair.filters.size:
            continue
        options = ExplainOptions(filters=tuple(pair.filters.tolist()))
        [found] = explainer.explain([scene.image], options)
        mapped = paper(_paper_attention(maps[0], pair.filters))
        scores = mapped @ vocabulary.vectors.T
        best = np.argpartition(-scores, 5, axis=1)[:, :5]
        for row, right in enumerate(pair.categories):
            said = {word for word, _ in found.words(row)}
            ours.append(len(said & right) / len(right))
            theirs.append(len({vocabulary.words[i] for i in best[row]} & right) / len(right))
    return float(np.mean(ours)), float(np.mean(theirs))


def _paper_attention(maps: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """v_k = cos(A_u, A_k)·mean(A_k) for some filters u: (F, C)."""
    flat = maps.reshape(len(maps), -1)
    unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    return np.asarray((unit[filters] @ unit.T) * flat.mean(axis=1), dtype=np.float32)


def _paper_filter_words(
    explainer: Explainer, paper: MapperWeights, vocabulary: WordVectors
) -> list[list[str]]:
    """Ten words a filter as published: 25 images by maximum, five words each, int(max) votes."""
    session = _session(explainer.bundle)
    channels = explainer.layer().channels
    maps = np.concatenate(
        [
            session.run([f"map_{_LAYER}"], {"images": scene.image[None]})[0].astype(np.float16)
            for scene in Scenes(range(_PROBE_SCENES), seed=0, split="probe")
        ]
    )
    peak = maps.max(axis=(2, 3)).astype(np.float32)  # (m, C)
    top = np.argsort(-peak, axis=0, kind="stable")[:25]  # (25, C)
    votes = np.zeros((channels, len(vocabulary.words)), dtype=np.int32)
    for image in np.unique(top):
        filters = np.flatnonzero((top == image).any(axis=0) & (peak[image] >= 1))
        if not filters.size:
            continue
        mapped = paper(_paper_attention(maps[image].astype(np.float32), filters))
        scores = mapped @ vocabulary.vectors.T
        best = np.argpartition(-scores, 5, axis=1)[:, :5]
        votes[filters[:, None], best] += peak[image, filters, None].astype(np.int32)
    ranked = np.argsort(-votes, axis=1, kind="stable")[:, :10]
    return [
        [vocabulary.words[i] for i in row if count[i]]
        for row, count in zip(ranked, votes, strict=True)
    ]


def _selective(features: Features, vocabulary: WordVectors) -> dict[int, str]:
    """Each active filter's most selective category: the largest mean activation on its objects."""
    regions, category = features.layers[_LAYER].regions, features.category
    usable = [
        c
        for c in range(len(features.categories))
        if (category == c).sum() >= 2 and features.categories[c] in vocabulary.index
    ]
    means = np.stack([regions[category == c].mean(axis=0) for c in usable])  # (K, C)
    best = means.argmax(axis=0)
    alive = np.flatnonzero(means.max(axis=0) > 0)
    return {int(f): features.categories[usable[best[f]]] for f in alive}


def _hits(words: list[list[str]], selective: dict[int, str]) -> float:
    """Share of filters whose words hold their most selective category."""
    return float(np.mean([category in words[f] for f, category in selective.items()]))


@cache
def _words_rows() -> tuple[Row, ...]:
    return tuple(words_rows())


def _one(name: str) -> Bench:
    """One of the rows that come of the same work, which is done once."""
    return lambda: [row for row in _words_rows() if row.name == name]


ROWS: Final[dict[str, Bench]] = {
    name: _one(name)
    for name in (
        "recall-objects@1",
        "recall-objects@5",
        "recall-filter-images@5",
        "filter-words-hit@10",
    )
} | {"photographs-hit@10": photograph_rows}
