"""How often the right word is among the best: recall@k."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lavise.words import WordVectors


def recall_at(
    score: Callable[[np.ndarray], np.ndarray],
    features: np.ndarray,
    names: Sequence[str],
    vocabulary: WordVectors,
    ks: Sequence[int] = (1, 5, 10, 20),
) -> dict[str, float]:
    """Recall@k of features over a vocabulary (paper, section 4.1).

    Args:
        score: (R, C) features to (R, V) scores, such as lavise.word_scores.WordScores.
        features: (n, C).
        names: The right word of each; those outside the vocabulary are left out.
        vocabulary: The V words.
        ks: Cuts.

    Returns:
        ``recall@k`` for each k, and ``examples``, how many were counted; empty where none was.
    """
    kept = [i for i, name in enumerate(names) if name in vocabulary.index]
    if not kept:
        return {}
    right = np.array([vocabulary.index[names[i]] for i in kept])
    rank = np.concatenate(
        [
            _ranks(score(features[kept[start : start + 256]]), right[start : start + 256])
            for start in range(0, len(kept), 256)
        ]
    )
    return {f"recall@{k}": float(np.mean(rank < k)) for k in ks} | {"examples": float(len(kept))}


def _ranks(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Words that score better than the right one, for each feature."""
    own = np.take_along_axis(scores, right[:, None], axis=1)
    return np.asarray((scores > own).sum(axis=1))
