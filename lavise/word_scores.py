"""A word's score for a visual feature: what the words graphs, the votes and the metrics share.

    score(w) = max( cos(g(v), w),  max over concepts c that speak for w:  1 + T·log p(c | v) - h )

The cosine to the blend of concepts ranks words of any meaning, also words never taught; but among
its best are then the neighbours of the best concept instead of the second best. So a word that
names a concept (h = 0) scores at least what, in a softmax over scores at temperature T, gives the
concept its posterior back: 1 where the mapper is sure, 0.88 at one tenth. A word that no concept
names is spoken for by those it is kin to (lavise.kin), at a handicap h = 0.1·(1 - log s) for a
nearness s. Only the eight best concepts count, and only ``concepts`` mappers have any.
docs/method.md has what it brought.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from lavise.kin import kin_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lavise.mapper import MapperWeights
    from lavise.words import WordVectors

NAMING_TEMPERATURE: Final = 0.05
N_NAMED: Final = 8
_NEAR: Final = 0.8
"""Least cosine of a concept to the word that names it."""
_N_KIN: Final = 8
_KIN_COSTS: Final = 0.1
_SILENT: Final = -10.0
"""A handicap that no cosine is below."""
_AT_ONCE: Final = 64
_TINY: Final = 1e-12


@dataclass(frozen=True)
class Spoken:
    """The words that each of K concepts speaks for: the one that names it, then its kin.

    Attributes:
        word: (K, M) int64 positions in the vocabulary; 0 where the handicap silences them.
        handicap: (K, M) float32, what is added to the concept's 1 + T·log p.
    """

    word: np.ndarray
    handicap: np.ndarray

    @classmethod
    def by(cls, E: np.ndarray, concepts: Sequence[str], vocabulary: WordVectors) -> Self:
        """The words that concepts speak for; it takes a second for some thousand words.

        Args:
            E: (K, D) unit-norm word vectors of the concepts; K is 0 for ``regression``.
            concepts: At least their K names.
            vocabulary: The words.
        """
        named = named_words(E, vocabulary.vectors)
        kin, near = kin_words(concepts[: named.size], vocabulary.words, named, _N_KIN)
        word = np.concatenate([named[:, None], kin], axis=1)
        cost = _KIN_COSTS * (np.log(np.maximum(near, _TINY)) - 1)
        cost = np.concatenate([np.zeros_like(near[:, :1]), cost], axis=1)
        handicap = np.where(word >= 0, cost, _SILENT).astype(np.float32)
        return cls(np.maximum(word, 0), handicap)


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
        spoken: What its concepts speak for.
    """

    mapper: MapperWeights
    vocabulary: np.ndarray
    spoken: Spoken

    @classmethod
    def of(cls, mapper: MapperWeights, vocabulary: WordVectors) -> Self:
        """The scores of a mapper over a vocabulary."""
        return cls(mapper, vocabulary.vectors, Spoken.by(mapper.E, mapper.concepts, vocabulary))

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
            said = (1 + NAMING_TEMPERATURE * np.log(p))[:, :, None] + self.spoken.handicap[best]
            word = self.spoken.word[best]  # (R, n, M)
            row = np.broadcast_to(np.arange(len(v))[:, None, None], word.shape)
            np.maximum.at(scores, (row, word), said.astype(scores.dtype))
        return np.asarray(scores)
