"""The paper's measure: recall@k of a filter's words on an image, over filter-image pairs.

A pair counts where the filter's enlarged, cut map overlaps an annotated region of the image with
IoU > 0.04; the categories of those regions are its right answers. A pair's recall@k is the share
of its right answers among the k best words, and recall@k is the mean over pairs (Yang, Kim and
Joo, CVPR 2022, section 4.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lavise.evaluate.sanity import with_as_many_wrong

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lavise.evaluate.overlap import Overlap

IOU: Final = 0.04
CUTS: Final = (1, 5, 10, 20)
CHECKS: Final = ("missing_labels", "extra_labels")


@dataclass(frozen=True)
class Pairs:
    """The filters of one image that overlap something annotated. P pairs, K categories.

    Attributes:
        filters: (P,) indices, none twice.
        right: (P, K) bool, their right answers.
    """

    filters: np.ndarray
    right: np.ndarray

    def of(self, rows: np.ndarray) -> Pairs:
        """Some of the pairs, by position."""
        return Pairs(self.filters[rows], self.right[rows])


def find_pairs(found: Overlap, categories: np.ndarray, n_categories: int) -> Pairs:
    """Finds the pairs of one image.

    Args:
        found: Overlap of a layer with the image's regions.
        categories: (M,) of the regions; -1 for those that are no answer.
        n_categories: K.

    Returns:
        The pairs.
    """
    row, region = np.nonzero((found.iou() > IOU) & (categories >= 0)[None, :])
    right = np.zeros((found.filters.size, n_categories), dtype=bool)
    right[row, categories[region]] = True
    kept = right.any(axis=1)
    return Pairs(found.filters[kept], right[kept])


class RecallCounts:
    """Recall of one method, summed by filter. C filters.

    Args:
        channels: C.
        groups: Name to (K,) bool: the right answers that count, such as seen and unseen ones.

    Attributes:
        hits: Group to (C, 4): sums of recall@1, @5, @10 and @20 over a filter's pairs.
        pairs: Group to (C,): pairs with a right answer of the group.
    """

    def __init__(self, channels: int, groups: Mapping[str, np.ndarray]) -> None:
        self._groups = groups
        self.hits = {name: np.zeros((channels, len(CUTS))) for name in groups}
        self.pairs = {name: np.zeros(channels) for name in groups}

    def update(self, pairs: Pairs, rank: np.ndarray) -> None:
        """Takes in an image.

        Args:
            pairs: Of the image.
            rank: (P, K), see ranks().
        """
        for name, group in self._groups.items():
            right = pairs.right & group
            answers = right.sum(axis=1)
            counted = answers > 0
            filters = pairs.filters[counted]
            for place, k in enumerate(CUTS):
                hit = (right & (rank < k)).sum(axis=1)[counted]
                self.hits[name][filters, place] += hit / answers[counted]
            self.pairs[name][filters] += 1


def ranks(word_ids: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Where each category's word stands among the words of each pair.

    Args:
        word_ids: (P, k) answers, best first; -1 for none.
        words: (K,) word ids of the categories.

    Returns:
        (P, K), from 0; a large number where the word is not among them.
    """
    order = np.argsort(words, kind="stable")
    rank = np.full((len(word_ids), words.size), np.iinfo(np.int64).max)
    low = np.searchsorted(words[order], word_ids, side="left")
    high = np.searchsorted(words[order], word_ids, side="right")
    # Two categories may share a word, as "TV" and "tv" do.
    for offset in range(int((high - low).max(initial=0))):
        row, place = np.nonzero(low + offset < high)
        rank[row, order[low[row, place] + offset]] = place
    return rank


def wrong_pairs(pairs: Pairs, rng: np.random.Generator) -> dict[str, Pairs]:
    """The pairs of an image with labels made wrong: see lavise.evaluate.sanity.

    Args:
        pairs: As they are.
        rng: Draws what is wrong.

    Returns:
        ``missing_labels``: each category of the image has lost its label with a chance of one
        half, and pairs may be left without an answer; ``extra_labels``: as many wrong answers
        added to each pair as it has right ones.
    """
    kept = rng.random(pairs.right.shape[1]) < 0.5
    return {
        "missing_labels": Pairs(pairs.filters, pairs.right & kept),
        "extra_labels": Pairs(pairs.filters, with_as_many_wrong(pairs.right, rng)),
    }
