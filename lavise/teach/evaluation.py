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


def skill(recall: float, names: Sequence[str], k: int) -> float | None:
    """How far a recall is on the way from knowing nothing of an image to being always right.

    A skill score (Murphy, 1988) over the answer that is always the same: the k most frequent names.

    Args:
        recall: recall@k.
        names: The right words of the examples that it was measured on.
        k: Its cut.

    Returns:
        1 where it is always right, 0 where the constant answer would be as good, less where that
        would be better; None where that is always right.
    """
    counts = np.sort(np.unique(np.array(names, dtype=str), return_counts=True)[1])
    constant = float(counts[-k:].sum() / counts.sum())
    return None if constant == 1 else (recall - constant) / (1 - constant)


def _ranks(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Words that score better than the right one, for each feature."""
    own = np.take_along_axis(scores, right[:, None], axis=1)
    return np.asarray((scores > own).sum(axis=1))
