"""Rows of ``make bench-quality`` on where words come from: the union, an earlier layer, the unseen.

One pass over the demo's teaching scenes with two layers tapped, and lessons on it as ``lavise
teach`` gives them. Photographs: benchmarks/photographs.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.harness import BUILD, Row, at_least
from benchmarks.photographs import LABELS, is_right, photograph, stamp, stamps
from benchmarks.quality import held_out
from benchmarks.word_quality import SCENES, SEEDS, mean_of
from lavise.attention import attention_rows
from lavise.cnn import load_cnn
from lavise.cnn_graph import export_cnn
from lavise.filter_words import votes
from lavise.images import prepare
from lavise.runtime import open_session
from lavise.teach.annotation import held_out_categories
from lavise.teach.datasets import DemoDataset
from lavise.teach.evaluation import recall_at
from lavise.teach.features import extract_features
from lavise.teach.fitting import PLAINLY
from lavise.teach.heads import heads_of
from lavise.teach.lesson import Lesson
from lavise.teach.plan import Plan
from lavise.teach.subject import open_subject
from lavise.teach.training import PAPER_RECIPE
from lavise.word_scores import WordScores
from lavise.words import WordVectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.harness import Bench
    from lavise.manifest import CnnEntry
    from lavise.mapper import MapperWeights
    from lavise.teach.features import Features
    from lavise.teach.own_classes import Head

_LAYERS: Final = ("features", "blocks.15")
_LAST, _BEFORE = 0, 1
_UNION: Final = ("own-classes", "demo")
_UNSEEN: Final = 0.2
_FILTERS, _WORDS = 20, 10


@dataclass(frozen=True)
class _Pass:
    entry: CnnEntry
    features: Features
    heads: Sequence[tuple[Head, dict[str, float]]]


@cache
def _taught() -> _Pass:
    """The demo's teaching scenes as both layers see them."""
    graph = BUILD / "two-layers.onnx"
    BUILD.mkdir(parents=True, exist_ok=True)
    entry = export_cnn(load_cnn("efficientnet_lite0"), _LAYERS, graph)
    session = open_session(graph)
    features = extract_features(session, [DemoDataset(0)], size=entry.input_size)
    return _Pass(entry, features, heads_of(graph, session, _LAYERS, features, print))


@cache
def _mapper(plan: Plan, layer: int) -> tuple[MapperWeights, WordVectors]:
    """A mapper and its vocabulary: that of the union, whatever it is taught on."""
    found = _taught()
    cnn = load_cnn("efficientnet_lite0")
    subject = open_subject(cnn, replace(plan, datasets=_UNION), lambda _: None)
    if "demo" not in plan.datasets:
        subject = replace(subject, vectors={})
    head, measured = found.heads[layer] if "own-classes" in plan.datasets else (None, {})
    lesson = Lesson(plan, subject, found.entry, found.features, layer, head, measured)
    return lesson.learn(PLAINLY)[0], subject.vocabulary


def _scenes(mapper: MapperWeights, words: WordVectors) -> list[float]:
    """recall@5 of objects on held-out scenes in the demo's richest style, by seed."""
    score = WordScores.of(mapper, words)
    return [
        recall_at(score, found.layers[_LAST].regions[:], _names(found), words)["recall@5"]
        for found in (held_out(seed) for seed in SEEDS)
    ]


def _names(features: Features) -> list[str]:
    return [features.categories[i] for i in features.category]


@cache
def _photographs() -> tuple[list[tuple[str, ...]], list[np.ndarray], str]:
    """Labels, both layers' maps, and what they are."""
    more = stamps()
    files = [*map(photograph, LABELS), *map(stamp, more)]
    _taught()
    session = open_session(BUILD / "two-layers.onnx")
    size = _taught().entry.input_size
    outputs = [f"map_{i}" for i in range(len(_LAYERS))]
    maps = [session.run(outputs, {"images": prepare(data, size)[None]}) for data in files]
    what = f"{len(files)} photographs"
    if not more:
        what += ", few: 163 more with Debian's tuxpaint-stamps-default"
    return [*LABELS.values(), *more.values()], maps, what


def _hit(
    mapper: MapperWeights,
    words: WordVectors,
    layer: int,
    attend: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> float:
    """Share of the photographs with a right noun among ten words that the filters agree on."""
    score = WordScores.of(mapper, words)
    labels, maps, _ = _photographs()
    right = []
    for label, found in zip(labels, maps, strict=True):
        A = np.asarray(found[layer])[0].reshape(found[layer].shape[1], -1)  # (C, N)
        # The last layer saturates: its maxima tie.
        activation = A.mean(axis=1) if layer == _LAST else A.max(axis=1)
        best = np.argsort(-activation, kind="stable")[:_FILTERS]
        total = votes(score, attend(A, best)).sum(axis=0)
        right.append(is_right(label, [words.words[i] for i in np.argsort(-total)[:_WORDS]]))
    return float(np.mean(right))


def _matched(A: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """(F, C) features that filters of a map A (C, N) attend to."""
    return np.asarray(attention_rows(A[filters]) @ A.T)


def _papers(A: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """The same by the paper's formula: v_k = cos(A_u, A_k)·mean(A_k)."""
    unit = A / np.maximum(np.linalg.norm(A, axis=1, keepdims=True), 1e-12)
    return np.asarray((unit[filters] @ unit.T) * A.mean(axis=1), dtype=np.float32)


def union() -> Iterable[Row]:
    """One bundle of both sources against each source alone, where that one is at home."""
    both, own, annotated = (
        _mapper(Plan(datasets=datasets, layers=_LAYERS), _LAST)
        for datasets in (_UNION, ("own-classes",), ("demo",))
    )
    what = _photographs()[2]
    ours, theirs = _hit(*both, _LAST, _matched), _hit(*own, _LAST, _matched)
    yield at_least(
        "union-on-photographs",
        [ours - theirs],
        bar=-0.02,
        unit="more hit@10 than own classes alone",
        baseline=f"{what}: {ours:.3f} against {theirs:.3f}",
    )
    ours_, theirs_ = _scenes(*both), _scenes(*annotated)
    differences = [a - b for a, b in zip(ours_, theirs_, strict=True)]
    yield mean_of(
        at_least(
            "union-on-scenes",
            differences,
            bar=-0.02,
            unit="more recall@5 than the annotated source alone",
            baseline=f"{SCENES:,} held-out scenes a seed: {np.mean(ours_):.3f} against "
            f"{np.mean(theirs_):.3f}",
        ),
        differences,
    )


def block_before_last() -> Iterable[Row]:
    """Own classes by soft labels, on a layer that does not feed the head."""
    own = Plan(datasets=("own-classes",), layers=_LAYERS)
    soft = _hit(*_mapper(own, _BEFORE), _BEFORE, _matched)
    plan = Plan(datasets=("demo",), layers=_LAYERS, form="regression", recipe=PAPER_RECIPE)
    paper = _hit(*_mapper(plan, _BEFORE), _BEFORE, _papers)
    yield at_least(
        "last-block-soft-labels",
        [soft / max(paper, 1e-9)],
        bar=3.0,
        unit="x the paper's recipe, hit@10 on photographs",
        baseline=f"{_photographs()[2]}, {_LAYERS[_BEFORE]}: {soft:.3f} against {paper:.3f}",
    )


def unseen() -> Iterable[Row]:
    """Objects of categories that were held out, among the words of these."""
    values, chances = [], []
    for seed in SEEDS:
        plan = Plan(datasets=_UNION, layers=_LAYERS, unseen=_UNSEEN)
        mapper, vocabulary = _mapper(replace(plan, seed=seed), _LAST)
        taught = {name.casefold() for name in mapper.concepts}
        never = held_out_categories(DemoDataset(0).categories, _UNSEEN, seed=seed)
        some = [vocabulary.index[name] for name in sorted(never - taught)]
        words = WordVectors([vocabulary.words[i] for i in some], vocabulary.vectors[some])
        found = held_out(seed)
        among = _among(WordScores.of(mapper, vocabulary), some)
        recall = recall_at(among, found.layers[_LAST].regions[:], _names(found), words)
        values.append(recall["recall@5"])
        chances.append(5 / len(some))
    yield mean_of(
        at_least(
            "unseen-categories@5",
            values,
            bar=0.30,
            unit="",
            baseline="a fifth of the categories held out, but for those that an own class is "
            f"called; among their words, chance {np.mean(chances):.3f}",
        ),
        values,
    )


def _among(
    score: Callable[[np.ndarray], np.ndarray], some: list[int]
) -> Callable[[np.ndarray], np.ndarray]:
    """The scores of some words only."""
    return lambda features: score(features)[:, some]


ROWS: dict[str, Bench] = {
    "unseen-categories@5": unseen,
    "union": union,
    "last-block-soft-labels": block_before_last,
}
