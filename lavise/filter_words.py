"""A filter's words over its top images, and whether they mean anything.

Votes: each top image gives softmax(score / 0.05) over the vocabulary for the filter's attended
feature there (lavise.word_scores); a filter's share of a word is the mean over its top images.

Verdict: the words of a filter that stands for something differ from the words of everything, over
its top images, by more than they do over images drawn at random. Statistic: the Kullback-Leibler
divergence of the filter's shares from the mean shares over random images of the probe set. Null:
the same statistic of the same filters over as many random images, pooled over the layer. The
p-values are corrected by Benjamini and Hochberg over the layer; ``described`` at q <= 0.05. Words
of a mapper that is hardly ever right on held-out images mean nothing, whatever they differ from:
then no filter is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import stats

from lavise.attention import attention_rows
from lavise.progress import Track, silent
from lavise.word_scores import WordScores

if TYPE_CHECKING:
    from lavise.catalog import LayerStatistics
    from lavise.catalog_table import Verdict
    from lavise.mapper import MapperWeights
    from lavise.words import WordVectors

VOTE_TEMPERATURE: Final = 0.05
N_WORDS: Final = 10
_LEVEL: Final = 0.05
_NULL_DRAWS: Final = 10
_NULL_FILTERS: Final = 128
_FILTERS_AT_ONCE: Final = 16
_FEWEST_IMAGES: Final = 5
_TOP_SHARE: Final = 4
"""Of a small probe set only the best quarter of the images votes: the rest are not its top."""


@dataclass(frozen=True)
class FilterWords:
    """Words and verdict of every filter of a layer. C filters.

    Attributes:
        words: For each filter (word id, share), best first.
        statistic: (C,) divergence from what is said of random images, nats.
        q_value: (C,).
        verdict: C verdicts.
    """

    words: list[list[tuple[int, float]]]
    statistic: np.ndarray
    q_value: np.ndarray
    verdict: list[Verdict]


def describe(
    mapper: MapperWeights,
    vocabulary: WordVectors,
    found: LayerStatistics,
    *,
    skilled: bool = True,
    track: Track = silent,
    seed: int = 0,
) -> FilterWords:
    """Finds every filter's words and verdict.

    Args:
        mapper: Of the layer.
        vocabulary: The words.
        found: What the stream left.
        skilled: Whether the mapper's words are worth anything.
        track: Shows progress.
        seed: Of the null draws.

    Returns:
        Words, statistics and verdicts.
    """
    C = len(found.activation)
    used = _used(found)
    counts = used.sum(axis=1)
    score = WordScores.of(mapper, vocabulary)
    background, null = _null_model(score, found, counts, seed, track)
    words: list[list[tuple[int, float]]] = []
    statistic = np.zeros(C)
    for start in track(range(0, C, _FILTERS_AT_ONCE), "filter words", -(-C // _FILTERS_AT_ONCE)):
        some = slice(start, start + _FILTERS_AT_ONCE)
        seen = used[some]
        given = votes(score, found.attended[some][seen].astype(np.float32))
        ends = np.cumsum(seen.sum(axis=1))
        for f, one in enumerate(np.split(given, ends[:-1]), start):
            if not len(one):
                words.append([])
                continue
            shares = one.mean(axis=0)
            statistic[f] = _divergence(shares, background)
            best = np.argpartition(-shares, min(N_WORDS, shares.size) - 1)[:N_WORDS]
            best = best[np.argsort(-shares[best], kind="stable")]
            words.append([(int(i), float(shares[i])) for i in best])
    testable = counts >= _FEWEST_IMAGES
    q_value = np.ones(C)
    if testable.any() and null.size:
        p_value = _p_values(statistic[testable], null)
        q_value[testable] = stats.false_discovery_control(p_value, method="bh")
    verdict: list[Verdict] = [
        "described" if skilled and q <= _LEVEL else "uninterpretable" for q in q_value.tolist()
    ]
    return FilterWords(words, statistic, q_value, verdict)


def _used(found: LayerStatistics) -> np.ndarray:
    """Which of a filter's stored images vote, (C, p): at most a quarter of the probe set."""
    order = np.argsort(np.argsort(-found.activation, axis=1, kind="stable"), axis=1)
    return np.asarray((found.image >= 0) & (order < max(1, found.images // _TOP_SHARE)))


def votes(score: WordScores, features: np.ndarray) -> np.ndarray:
    """Each image's vote over the vocabulary.

    Args:
        score: Of the layer's mapper over the vocabulary.
        features: (R, C) attended features.

    Returns:
        (R, V), rows summing to 1.
    """
    logits = score(features) / VOTE_TEMPERATURE
    logits -= logits.max(axis=1, keepdims=True)
    shares = np.exp(logits)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _null_model(
    score: WordScores,
    found: LayerStatistics,
    counts: np.ndarray,
    seed: int,
    track: Track,
) -> tuple[np.ndarray, np.ndarray]:
    """What filters say of random images.

    Returns:
        The mean shares (V,), and the statistic of some filters over random images, as many as
        each one's top images.
    """
    rng = np.random.default_rng(seed)
    sample = found.sample[: found.images]  # (m, C, N)
    alive = np.flatnonzero(counts >= _FEWEST_IMAGES)
    some = rng.choice(alive, size=min(alive.size, _NULL_FILTERS), replace=False)
    said = []
    for f in track(some, "null model", len(some)):
        rows = attention_rows(sample[:, f].astype(np.float32))  # (m, N)
        active = np.flatnonzero(rows.sum(axis=1) > 0)
        features = [rows[i] @ sample[i].T.astype(np.float32) for i in active]
        # With fewer random images than top images the two could not be compared.
        if len(features) >= counts[f]:
            said.append((votes(score, np.stack(features)), int(counts[f])))
    if not said:
        return np.full(len(score.vocabulary), 1 / len(score.vocabulary)), np.zeros(0)
    background = np.mean([shares.mean(axis=0) for shares, _ in said], axis=0)
    null = []
    for shares, n in said:
        # With replacement: of a small sample, draws without it would all be nearly the whole of it.
        for _ in range(_NULL_DRAWS):
            drawn = rng.choice(len(shares), size=n, replace=True)
            null.append(_divergence(shares[drawn].mean(axis=0), background))
    return background, np.array(null)


def _divergence(shares: np.ndarray, background: np.ndarray) -> float:
    """Kullback-Leibler divergence of two distributions over words, in nats."""
    tiny = 1e-12
    return float(np.sum(shares * np.log((shares + tiny) / (background + tiny))))


def _p_values(statistic: np.ndarray, null: np.ndarray) -> np.ndarray:
    """One-sided, with the observation counted among the null (Davison and Hinkley, 1997, 4.2)."""
    ordered = np.sort(null)
    above = ordered.size - np.searchsorted(ordered, statistic, side="left")
    return np.asarray((above + 1) / (ordered.size + 1))
