"""A word's score for a visual feature: what the words graphs, the votes and the metrics share.

    score(w) = max( cos(g(v), w),  max over named concepts c of w:  1 + T·log p(c | v) )

The cosine to the blend of concepts ranks words of any meaning, also words never taught; but among
its best are then the neighbours of the best concept instead of the second best. So a word that
names a concept scores at least what, in a softmax over scores at temperature T, gives the concept
its posterior back: 1 where the mapper is sure, 0.88 at one tenth. Only the eight best concepts
count, and only ``concepts`` mappers have any. docs/method.md has what it brought.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

if TYPE_CHECKING:
    from lavise.mapper import MapperWeights

NAMING_TEMPERATURE: Final = 0.05
N_NAMED: Final = 8
_NEAR: Final = 0.8
"""Least cosine of a concept to the word that names it."""
_AT_ONCE: Final = 64
_TINY: Final = 1e-12


def named_words(E: np.ndarray, vocabulary: np.ndarray) -> np.ndarray:
    """The word that names each concept: the nearest one.

    Args:
        E: (K, D) unit-norm word vectors of the concepts; a zero row is a concept without a word.
        vocabulary: (V, D) unit-norm.

    Returns:
        (K,) int64 positions in the vocabulary; -1 where no word is near.
    """
    named = np.full(len(E), -1, dtype=np.int64)
    for start in range(0, len(E), _AT_ONCE):
        cosine = E[start : start + _AT_ONCE] @ vocabulary.T  # (64, V)
        best = cosine.argmax(axis=1)
        near = cosine[np.arange(len(best)), best] >= _NEAR
        named[start : start + _AT_ONCE][near] = best[near]
    return named


@dataclass(frozen=True)
class WordScores:
    """Scores features over a vocabulary.

    Attributes:
        mapper: The mapper.
        vocabulary: (V, D) unit-norm word vectors.
        named: (K,) from named_words(); (0,) for ``regression``.
    """

    mapper: MapperWeights
    vocabulary: np.ndarray
    named: np.ndarray

    @classmethod
    def of(cls, mapper: MapperWeights, vocabulary: np.ndarray) -> Self:
        """The scores of a mapper over a vocabulary."""
        return cls(mapper, vocabulary, named_words(mapper.E, vocabulary))

    def __call__(self, v: np.ndarray) -> np.ndarray:
        """Scores features.

        Args:
            v: (R, C) float32.

        Returns:
            (R, V) float32, at most 1.
        """
        posterior = self.mapper.posterior(v)
        g = posterior @ self.mapper.E if self.mapper.form == "concepts" else posterior  # (R, D)
        norm = np.linalg.norm(g, axis=1, keepdims=True)
        scores = (g / np.maximum(norm, _TINY)) @ self.vocabulary.T  # (R, V)
        if self.mapper.form == "concepts":
            n = min(N_NAMED, posterior.shape[1])
            best = np.argpartition(-posterior, n - 1, axis=1)[:, :n]  # (R, n)
            p = np.maximum(np.take_along_axis(posterior, best, axis=1), _TINY)
            said = (1 + NAMING_TEMPERATURE * np.log(p)).astype(scores.dtype)
            word = self.named[best]
            row = np.broadcast_to(np.arange(len(v))[:, None], word.shape)
            has_word = word >= 0
            np.maximum.at(scores, (row[has_word], word[has_word]), said[has_word])
        return np.asarray(scores)
