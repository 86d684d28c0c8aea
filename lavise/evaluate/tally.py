"""What is counted of one layer while the images stream by. C filters, K categories, n images.

Memory is about 50 CK bytes, whatever n is, and 4 bytes for each filter and image: activations are
ranked over all images, and only then thresholds of F1 can be chosen. 10,000 images and 2,048
filters make 82 MB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lavise.attention import area_weights
from lavise.evaluate.dissection import Dissection
from lavise.evaluate.overlap import cut_at, overlap
from lavise.evaluate.recall import CHECKS, RecallCounts, find_pairs, ranks, wrong_pairs
from lavise.evaluate.said import MASKED_PAIRS
from lavise.graph_terms import GRAPH_METHODS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lavise.evaluate.answers import Answers
    from lavise.evaluate.recall import Pairs
    from lavise.evaluate.said import Speaker
    from lavise.manifest import LayerEntry

METHODS: Final = (*GRAPH_METHODS, "image")


@dataclass(frozen=True)
class Sight:
    """One image as it is judged. R regions of K categories.

    Attributes:
        pixels: (S, S, 3) uint8.
        masks: (R, S, S) bool.
        categories: (R,) positions among the answers.
    """

    pixels: np.ndarray
    masks: np.ndarray
    categories: np.ndarray


class LayerTally:
    """Counts of one layer.

    Args:
        entry: The layer.
        position: Of it in the manifest.
        threshold: (C,) T_f.
        answers: What can be right.
        half: (n,) which half of the images each belongs to, 0 or 1: what is chosen from labels is
            chosen on half 0 and measured on half 1.
        seed: Of what is drawn by lot.

    Attributes:
        activation: (n, C) float32, max over space; mean where the layer saturates.
        dissection: Areas, for Network Dissection's labels.
        recall: By method.
        checks: By method and check, of group ``all``.
        answered: Group to (2, C, K): by half, how much of a filter's pairs each category answers.
        excited: (C, K) sums of the mean activation on a category's regions, over half 1.
        regions: (K,) how many these are.
    """

    def __init__(
        self,
        entry: LayerEntry,
        position: int,
        threshold: np.ndarray,
        answers: Answers,
        half: np.ndarray,
        *,
        seed: int,
    ) -> None:
        C, K = entry.channels, len(answers.names)
        self.entry = entry
        self.threshold = threshold
        self.activation = np.zeros((half.size, C), dtype=np.float32)
        self.dissection = Dissection(C, K)
        self.recall = {method: RecallCounts(C, answers.groups) for method in METHODS}
        whole = {"all": np.ones(K, dtype=bool)}
        self.checks = {m: {c: RecallCounts(C, whole) for c in CHECKS} for m in METHODS}
        self.answered = {g: np.zeros((2, C, K), dtype=np.float32) for g in answers.groups}
        self.excited = np.zeros((C, K))
        self.regions = np.zeros(K)
        self._position = position
        self._cut = cut_at(threshold, entry.ceiling)
        self._answers = answers
        self._half = half
        self._rng = np.random.default_rng(seed)
        self._kind = "peak" if entry.ceiling is None else "mean"

    def update(
        self, row: int, sight: Sight, seen: Mapping[str, np.ndarray], i: int, speaker: Speaker
    ) -> None:
        """Takes in one image.

        Args:
            row: Which of the n.
            sight: The image.
            seen: From Speaker.look(), for the image's batch.
            i: The image in the batch.
            speaker: Says the words.
        """
        maps = seen[f"map_{self._position}"][i]  # (C, H, W)
        half = int(self._half[row])
        self.activation[row] = seen[f"{self._kind}_{self._position}"][i]
        present, unions = _by_category(sight)
        R = len(sight.masks)
        found = overlap(maps, self._cut, np.concatenate([sight.masks, unions]))
        self.dissection.update(half, found.of(np.arange(R, R + present.size)), present)
        if half:
            self._excite(maps, sight)
        pairs = find_pairs(found.of(np.arange(R)), sight.categories, len(self._answers.names))
        if pairs.filters.size:
            self._answer(half, pairs)
            self._listen(pairs, maps, sight.pixels, speaker)

    def _excite(self, maps: np.ndarray, sight: Sight) -> None:
        C, height, width = maps.shape
        for mask, category in zip(sight.masks, sight.categories, strict=True):
            weights = area_weights(mask, height, width).ravel()
            if (total := weights.sum()) > 0:
                self.excited[:, category] += maps.reshape(C, -1) @ (weights / total)
                self.regions[category] += 1

    def _answer(self, half: int, pairs: Pairs) -> None:
        for name, group in self._answers.groups.items():
            right = pairs.right & group
            share = right / np.maximum(right.sum(axis=1, keepdims=True), 1)
            self.answered[name][half, pairs.filters] += share.astype(np.float32)

    def _listen(self, pairs: Pairs, maps: np.ndarray, pixels: np.ndarray, speaker: Speaker) -> None:
        wrong = wrong_pairs(pairs, self._rng)
        n = pairs.filters.size
        for method in METHODS:
            rows = np.arange(n)
            if method == "image":
                rows = self._rng.permutation(n)[:MASKED_PAIRS]
                ids = speaker.say_masked(self.entry, pixels, maps, pairs.filters[rows], self._cut)
            else:
                ids = speaker.say(self.entry, method, pixels[None], pairs.filters[None], self._cut)[
                    0
                ]
            rank = ranks(ids, self._answers.words)
            self.recall[method].update(pairs.of(rows), rank)
            for check, counts in self.checks[method].items():
                counts.update(wrong[check].of(rows), rank)


def _by_category(sight: Sight) -> tuple[np.ndarray, np.ndarray]:
    """The categories of an image, each once, and all pixels of each: (P,) and (P, S, S)."""
    present = np.unique(sight.categories)
    side = sight.pixels.shape[0]
    unions = np.zeros((present.size, side, side), dtype=bool)
    for place, category in enumerate(present):
        unions[place] = sight.masks[sight.categories == category].any(axis=0)
    return present, unions
