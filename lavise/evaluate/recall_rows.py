"""The rows of the report that tell of recall: by method and group of categories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lavise.evaluate import report
from lavise.evaluate.dissection import best_categories
from lavise.evaluate.recall import CHECKS, CUTS
from lavise.evaluate.sanity import got_worse

if TYPE_CHECKING:
    from lavise.evaluate.bootstrap import Bootstrap
    from lavise.evaluate.recall import RecallCounts
    from lavise.evaluate.tally import LayerTally


def method_recall(tally: LayerTally, n_words: int, boot: Bootstrap) -> list[report.Recall]:
    """What each method of the bundle reached.

    Args:
        tally: The counts.
        n_words: Of the vocabulary.
        boot: Of the layer.

    Returns:
        A row a method and group.
    """
    rows = []
    for method, counts in tally.recall.items():
        for group in counts.hits:
            row = _recall(method, group, counts.hits[group], counts.pairs[group], boot, n_words)
            if group == "all":
                worse = {check: _fell(counts, tally.checks[method][check]) for check in CHECKS}
                row = row.model_copy(update=worse)
            rows.append(row)
    return rows


def _fell(before: RecallCounts, after: RecallCounts) -> dict[str, float | None]:
    """By k, the share of filters whose recall fell."""
    shares = []
    for counts in (before, after):
        pairs = counts.pairs["all"][:, None]
        shares.append(np.where(pairs > 0, counts.hits["all"] / np.maximum(pairs, 1), np.nan))
    return {str(k): got_worse(shares[0][:, i], shares[1][:, i]) for i, k in enumerate(CUTS)}


def dissection_recall(tally: LayerTally, boot: Bootstrap) -> list[report.Recall]:
    """What Network Dissection's labels reach on the same pairs.

    Args:
        tally: The counts.
        boot: Of the layer.

    Returns:
        A row a group, with labels of the same images and of the other half of them.
    """
    rows = []
    K = tally.regions.size
    both, first, second = (
        best_categories(tally.dissection.iou(*halves), CUTS[-1]) for halves in ((0, 1), (0,), (1,))
    )
    for method, on_first, on_second in (
        ("netdissect", both, both),
        ("netdissect-other-half", second, first),
    ):
        for group, answered in tally.answered.items():
            hits = _answered(answered[0], on_first) + _answered(answered[1], on_second)
            pairs = answered.sum(axis=(0, 2), dtype=np.float64).round()
            rows.append(_recall(method, group, hits, pairs, boot, K))
    return rows


def _answered(answered: np.ndarray, best: np.ndarray) -> np.ndarray:
    """(C, 4): what of a filter's pairs (C, K) its first categories (C, k) answer."""
    taken = np.take_along_axis(answered.astype(np.float64), np.maximum(best, 0), axis=1)
    taken = np.where(best >= 0, taken, 0.0).cumsum(axis=1)
    return taken[:, [k - 1 for k in CUTS]]


def _recall(
    method: str,
    group: str,
    hits: np.ndarray,
    pairs: np.ndarray,
    boot: Bootstrap,
    candidates: int,
) -> report.Recall:
    return report.Recall.model_validate(
        {
            "method": method,
            "categories": group,
            "pairs": int(pairs.sum()),
            "filters": int((pairs > 0).sum()),
            "candidates": candidates,
            "recall": {
                str(k): report.Estimate.of(boot.ratio(hits[:, i], pairs))
                for i, k in enumerate(CUTS)
            },
        }
    )
