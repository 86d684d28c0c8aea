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
        inactive: (F,) whether there is nothing to attend to; such a filter has no words.
        word_ids: (F, k) positions in the vocabulary, best first.
        scores: (F, k), see lavise.word_scores.
        peak: (C,) max over space of every filter of the layer.
        mean: (C,) mean over space.
        logits: (K,) of the CNN's own head; empty without one.
        explainer: What made it, for names and catalog entries.
        heatmaps: (F, H, W) uint8, each map's positive part, 255 at its maximum; None unless asked
            for.
    """

    layer: str
    filters: np.ndarray
    inactive: np.ndarray
    word_ids: np.ndarray
    scores: np.ndarray
    peak: np.ndarray
    mean: np.ndarray
    logits: np.ndarray
    explainer: Explainer
    heatmaps: np.ndarray | None = None

    @cached_property
    def activation(self) -> np.ndarray:
        """(F,) max over space; mean where the layer saturates."""
        saturates = self.explainer.layer(self.layer).ceiling is not None
        return np.asarray((self.mean if saturates else self.peak)[self.filters])

    @cached_property
    def threshold(self) -> np.ndarray | None:
        """(F,) T_f; None without a catalog."""
        catalog = self.explainer.catalog(self.layer)
        return None if catalog is None else np.asarray(catalog.threshold[self.filters])

    @cached_property
    def qualified(self) -> np.ndarray | None:
        """(F,) whether the map exceeds T_f somewhere; None without a catalog."""
        catalog = self.explainer.catalog(self.layer)
        if catalog is None:
            return None
        ceiling = self.explainer.layer(self.layer).ceiling
        return catalog.qualified(self.filters, self.peak[self.filters], ceiling)

    def words(self, row: int) -> list[tuple[str, float]]:
        """The words of one filter, best first, each with its score; none when inactive."""
        pairs, places = self._pairs
        return pairs[places[row]]

    @cached_property
    def _pairs(self) -> tuple[list[tuple[str, float]], list[slice]]:
        """Words with scores of all filters, and where each filter's lie.

        Arrays are made Python lists sooner at once than row by row.
        """
        active = ~self.inactive
        words = self.explainer.word_array[self.word_ids[active].ravel()].tolist()
        scores = self.scores[active].ravel().tolist()
        ends = (active.cumsum() * self.word_ids.shape[1]).tolist()
        places = list(map(slice, [0, *ends], ends))
        return list(zip(words, scores, strict=True)), places

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
