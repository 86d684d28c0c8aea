"""A filter's words over its top images, and whether they mean anything.

Votes: each top image gives softmax(cosine / 0.05) over the vocabulary for the filter's attended
feature there; a filter's share of a word is the mean over its top images.

Verdict: a filter that stands for something agrees with itself about its words over its top images
more than it does over images drawn at random. Statistic: the largest share. Null: the same
statistic of the same filters over random images of the probe set, pooled over the layer. The
p-values are corrected by Benjamini and Hochberg over the layer; `described` at q <= 0.05.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import stats

from lavise.attention import attention_rows
from lavise.progress import Track, silent

if TYPE_CHECKING:
    from lavise.catalog import LayerStatistics
    from lavise.catalog_table import Verdict
    from lavise.mapper import MapperWeights

VOTE_TEMPERATURE: Final = 0.05
N_WORDS: Final = 10
_LEVEL: Final = 0.05
_NULL_DRAWS: Final = 8
_FILTERS_AT_ONCE: Final = 8
_FEWEST_IMAGES: Final = 5


@dataclass(frozen=True)
class FilterWords:
    """Words and verdict of every filter of a layer. C filters.

    Attributes:
        words: For each filter (word id, share), best first.
        statistic: (C,) the largest share.
        q_value: (C,).
        verdict: C verdicts.
    """

    words: list[list[tuple[int, float]]]
    statistic: np.ndarray
    q_value: np.ndarray
    verdict: list[Verdict]


def describe(
    mapper: MapperWeights,
    vocabulary: np.ndarray,
    found: LayerStatistics,
    *,
    track: Track = silent,
    seed: int = 0,
) -> FilterWords:
    """Finds every filter's words and verdict.

    Args:
        mapper: Of the layer.
        vocabulary: Unit-norm word vectors (V, D).
        found: What the stream left.
        track: Shows progress.
        seed: Of the null draws.

    Returns:
        Words, statistics and verdicts.
    """
    C = len(found.activation)
    words: list[list[tuple[int, float]]] = []
    statistic = np.zeros(C)
    counts = np.zeros(C, dtype=np.int64)
    for f in track(range(C), "filter words", C):
        seen = found.image[f] >= 0
        counts[f] = seen.sum()
        if not counts[f]:
            words.append([])
            continue
        shares = votes(mapper, found.attended[f, seen].astype(np.float32), vocabulary).mean(axis=0)
        statistic[f] = shares.max()
        best = np.argpartition(-shares, min(N_WORDS, shares.size) - 1)[:N_WORDS]
        best = best[np.argsort(-shares[best], kind="stable")]
        words.append([(int(i), float(shares[i])) for i in best])
    null = _null_statistics(mapper, vocabulary, found, counts, seed, track)
    p_value = _p_values(statistic, null)
    testable = counts >= _FEWEST_IMAGES
    q_value = np.ones(C)
    if testable.any():
        q_value[testable] = stats.false_discovery_control(p_value[testable], method="bh")
    verdict: list[Verdict] = [
        "described" if q <= _LEVEL else "uninterpretable" for q in q_value.tolist()
    ]
    return FilterWords(words, statistic, q_value, verdict)


def votes(mapper: MapperWeights, features: np.ndarray, vocabulary: np.ndarray) -> np.ndarray:
    """Each image's vote over the vocabulary.

    Args:
        mapper: Of the layer.
        features: (R, C) attended features.
        vocabulary: Unit-norm word vectors (V, D).

    Returns:
        (R, V), rows summing to 1.
    """
    mapped = mapper(features)  # (R, D)
    norm = np.linalg.norm(mapped, axis=1, keepdims=True)
    logits = (mapped / np.maximum(norm, 1e-12)) @ vocabulary.T / VOTE_TEMPERATURE
    logits -= logits.max(axis=1, keepdims=True)
    shares = np.exp(logits)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _null_statistics(
    mapper: MapperWeights,
    vocabulary: np.ndarray,
    found: LayerStatistics,
    counts: np.ndarray,
    seed: int,
    track: Track,
) -> np.ndarray:
    """The statistic of some filters over random images, as many as their top images."""
    rng = np.random.default_rng(seed)
    sample = found.sample[: found.images]  # (m, C, N)
    alive = np.flatnonzero(counts >= _FEWEST_IMAGES)
    if alive.size == 0:
        return np.zeros(0)
    some = rng.choice(alive, size=min(alive.size, 160), replace=False)
    values = []
    for f in track(some, "null model", len(some)):
        rows = attention_rows(sample[:, f])  # (m, N)
        active = np.flatnonzero(rows.sum(axis=1) > 0)
        if active.size < _FEWEST_IMAGES:
            continue
        features = np.einsum("mn,mcn->mc", rows[active], sample[active])
        shares = votes(mapper, features.astype(np.float32), vocabulary)
        for _ in range(_NULL_DRAWS):
            # With replacement: most of a small sample, drawn without, is the same every time,
            # and a null that hardly varies finds meaning in chance.
            drawn = rng.integers(active.size, size=counts[f])
            values.append(shares[drawn].mean(axis=0).max())
    return np.array(values)


def _p_values(statistic: np.ndarray, null: np.ndarray) -> np.ndarray:
    """One-sided, with the observation counted among the null (Davison and Hinkley, 1997, 4.2)."""
    ordered = np.sort(null)
    above = ordered.size - np.searchsorted(ordered, statistic, side="left")
    return np.asarray((above + 1) / (ordered.size + 1))
