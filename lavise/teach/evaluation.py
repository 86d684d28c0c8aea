"""How often the right word is among the best: recall@k."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lavise.words import WordVectors


def recall_at(
    mapped: np.ndarray,
    names: Sequence[str],
    vocabulary: WordVectors,
    ks: Sequence[int] = (1, 5, 10, 20),
) -> dict[str, float]:
    """Recall@k of mapped features over a vocabulary (paper, section 4.1).

    Args:
        mapped: (n, D) vectors g(v).
        names: The right word of each; those outside the vocabulary are left out.
        vocabulary: Unit-norm words (V, D).
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
            _ranks(mapped[kept[start : start + 256]], right[start : start + 256], vocabulary)
            for start in range(0, len(kept), 256)
        ]
    )
    return {f"recall@{k}": float(np.mean(rank < k)) for k in ks} | {"examples": float(len(kept))}


def _ranks(mapped: np.ndarray, right: np.ndarray, vocabulary: WordVectors) -> np.ndarray:
    """Words that score better than the right one, for each feature; the norm does not matter."""
    scores = mapped @ vocabulary.vectors.T  # (n, V)
    own = np.take_along_axis(scores, right[:, None], axis=1)
    return np.asarray((scores > own).sum(axis=1))
