"""Rows of ``make bench-quality``: how good the words are, held out, seeds 0 to 2.

Scenes are of the split ``held-out``, which neither teaching nor the catalog sees.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.harness import Row, at_least, at_most
from benchmarks.material import bundle
from benchmarks.quality import filter_word_hits, held_out
from benchmarks.random_cnn import LAYER
from lavise.catalog import load_mapper, load_vocabulary, make_catalog
from lavise.catalog_table import read_catalog
from lavise.cnn import load_cnn
from lavise.demo.scenes import Scenes
from lavise.image_set import ImageSet
from lavise.runtime import open_session
from lavise.teach.datasets import DemoDataset
from lavise.teach.evaluation import recall_at
from lavise.teach.features import extract_features
from lavise.teach.teaching import Plan, teach
from lavise.teach.training import Examples, train_concepts
from lavise.word_scores import WordScores

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.harness import Bench

SEEDS: Final = (0, 1, 2)
SCENES: Final = 1800
_NEW_STYLE_SCENES: Final = 1000
_RANDOM_SCENES: Final = 1000
_TAUGHT_OBJECTS: Final = 12_000
_OBJECTS_A_SCENE: Final = 2.4


@cache
def _recall(style: str, scenes: int) -> list[dict[str, float]]:
    found = bundle()
    mapper = load_mapper(found, found.manifest.mappers[0])
    vocabulary = load_vocabulary(found)
    score = WordScores.of(mapper, vocabulary)
    recalls = []
    for seed in SEEDS:
        features = held_out(seed, style, scenes)
        names = [features.categories[i] for i in features.category]
        recalls.append(recall_at(score, features.layers[0].regions[:], names, vocabulary))
    return recalls


def _objects(
    name: str, style: str, scenes: int, bars: dict[int, float], what: str
) -> Iterable[Row]:
    for k, bar in bars.items():
        values = [one[f"recall@{k}"] for one in _recall(style, scenes)]
        yield mean_of(at_least(f"{name}@{k}", values, bar=bar, unit="", baseline=what), values)


def mean_of(row: Row, values: Sequence[float]) -> Row:
    """The row with the mean over seeds, whatever it is of, in place of the median."""
    mean = round(float(np.mean(values)), 4)
    ok = mean <= row.bar if row.sign == "≤" else mean >= row.bar
    return replace(row, value=mean, ok=ok)


def taught_style() -> Iterable[Row]:
    """Objects drawn as they were taught."""
    what = f"{SCENES:,} held-out scenes a seed, vocabulary of {len(bundle().words()):,} words"
    return _objects("objects-taught-style", "fluent", SCENES, {1: 0.55, 5: 0.72}, what)


def new_style() -> Iterable[Row]:
    """Objects in a rendering style that was never taught."""
    what = f"{_NEW_STYLE_SCENES:,} scenes a seed of the noto style, which no teaching sees"
    return _objects("objects-new-style", "noto", _NEW_STYLE_SCENES, {1: 0.35, 5: 0.55}, what)


def filter_words() -> Iterable[Row]:
    """The catalog's words of filters, and those that the paper's recipe finds."""
    hits, paper = filter_word_hits([held_out(seed) for seed in SEEDS])
    what = f"each filter's most selective category, {SCENES:,} held-out scenes a seed"
    yield mean_of(at_least("filter-words@10", hits, bar=0.45, unit="hit@10", baseline=what), hits)
    ratios = [ours / theirs for ours, theirs in zip(hits, paper, strict=True)]
    yield mean_of(
        at_least(
            "filter-words-ratio",
            ratios,
            bar=2.5,
            unit="x the paper's recipe, hit@10",
            baseline=f"the paper's recipe in the same run: {np.mean(paper):.3f}",
        ),
        ratios,
    )


def random_cnn() -> Iterable[Row]:
    """Filters of a randomly initialised CNN that the verdict calls described."""
    shares = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory(prefix="lavise-bench-") as folder:
            cnn = load_cnn(f"python:benchmarks.random_cnn:seed_{seed}")
            plan = Plan(datasets=("demo",), layers=(LAYER,), demo_scenes=_RANDOM_SCENES)
            taught = teach(cnn, plan, Path(folder) / "bundle")
            size = taught.manifest.cnn.input_size
            table = read_catalog(make_catalog(taught, _probe(seed, size)), LAYER)
            assert table is not None
            shares.append(table.verdict.count("described") / len(table.verdict))
    row = at_most(
        "random-cnn-described",
        shares,
        bar=0.05,
        unit="of the filters",
        baseline="ResNet-18 without its weights, layer4, taught and described like the demo",
    )
    yield mean_of(row, shares)


def _probe(seed: int, size: int) -> ImageSet:
    scenes = Scenes(range(_RANDOM_SCENES), seed=seed, split="probe", size=size)
    names = [f"scene {i}" for i in range(len(scenes))]
    return ImageSet("scenes", names, lambda i: scenes[i].image)


def teaching_time() -> Iterable[Row]:
    """Teaching on cached objects, last layer."""
    found = bundle()
    session = open_session(found.path / "cnn.onnx")
    n_scenes = round(_TAUGHT_OBJECTS / _OBJECTS_A_SCENE)
    dataset = DemoDataset(0, n_scenes)
    features = extract_features(session, [dataset], size=found.manifest.cnn.input_size)
    mapper = load_mapper(found, found.manifest.mappers[0])
    own = found.manifest.mappers[0].n_own
    position = {name: i for i, name in enumerate(mapper.concepts[own:])}
    kept = [i for i, c in enumerate(features.category) if features.categories[c] in position]
    kept = kept[:_TAUGHT_OBJECTS]
    concept = np.array([position[features.categories[features.category[i]]] for i in kept])
    examples = Examples(features.layers[0].regions[kept], concept)
    times = []
    for seed in range(7):
        start = time.perf_counter()
        train_concepts(examples, mapper.E[own:], mapper.concepts[own:], None, seed=seed)
        times.append(time.perf_counter() - start)
    yield at_most(
        "teaching-time",
        times,
        bar=45,
        unit="s",
        baseline=f"{len(kept):,} objects of {len(position)} categories, features at hand",
    )


ROWS: dict[str, Bench] = {
    "objects-taught-style": taught_style,
    "objects-new-style": new_style,
    "filter-words": filter_words,
    "random-cnn-described": random_cnn,
    "teaching-time": teaching_time,
}
