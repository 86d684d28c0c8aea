"""The answer for one image: arrays, turned into words where somebody reads them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from lavise.explainer import Explainer

N_PREDICTIONS: Final = 5


@dataclass(frozen=True)
class Explanation:
    """The words of the requested filters on one image. F filters, k words.

    Attributes:
        layer: The target layer.
        filters: (F,) channel indices, in the order asked for, or most active first.
        activation: (F,) max over space; mean where the layer saturates.
        threshold: (F,) T_f; None without a catalog.
        qualified: (F,) whether the map exceeds T_f somewhere; None without a catalog.
        inactive: (F,) whether there is nothing to attend to; such a filter has no words.
        word_ids: (F, k) positions in the vocabulary, best first.
        scores: (F, k), see lavise.word_scores.
        logits: (K,) of the CNN's own head; empty without one.
        explainer: What made it, for names and catalog entries.
        heatmaps: (F, H, W) uint8, each map's positive part, 255 at its maximum; None unless asked
            for.
    """

    layer: str
    filters: np.ndarray
    activation: np.ndarray
    threshold: np.ndarray | None
    qualified: np.ndarray | None
    inactive: np.ndarray
    word_ids: np.ndarray
    scores: np.ndarray
    logits: np.ndarray
    explainer: Explainer
    heatmaps: np.ndarray | None = None

    def words(self, row: int) -> list[tuple[str, float]]:
        """The words of one filter, best first, each with its score; none when inactive."""
        return list(self._words[row])

    @cached_property
    def _words(self) -> list[list[tuple[str, float]]]:
        """Of every filter: an array is made a Python list sooner at once than row by row."""
        found: list[list[tuple[str, float]]] = [[] for _ in self.filters]
        active, name = np.flatnonzero(~self.inactive), self.explainer.vocabulary.__getitem__
        ids, scores = self.word_ids[active].tolist(), self.scores[active].tolist()
        for row, some, said in zip(active.tolist(), ids, scores, strict=True):
            found[row] = list(zip(map(name, some), said, strict=True))
        return found

    def predictions(self) -> list[tuple[str, float]]:
        """The CNN's own labels with their probabilities, most probable first; at most 5."""
        if self.logits.size == 0:
            return []
        n = min(N_PREDICTIONS, self.logits.size)
        best = np.argpartition(-self.logits, n - 1)[:n]
        best = best[np.argsort(-self.logits[best], kind="stable")]
        exponentials = np.exp(self.logits - self.logits[best[0]])
        probabilities = exponentials[best] / exponentials.sum()
        names = self.explainer.class_names
        pairs = zip(best.tolist(), probabilities.tolist(), strict=True)
        return [(names[i] if i < len(names) else f"class {i}", p) for i, p in pairs]
