"""What the words graphs and their caller agree on, free of heavy imports: serving needs it."""

from __future__ import annotations

import math
from typing import Final

GRAPH_METHODS: Final = (
    "attention",
    "attention-paper",
    "attention-code",
    "activation",
    "original",
)
"""The methods that have a graph; ``image`` is ``original`` on a masked image."""

FACTORISE_FROM: Final = 96
"""Filters an image from which the factorised form wins over pooling each (docs/benchmarks.md)."""


def group_shape(n_words: int) -> tuple[int, int]:
    """How words are dealt into groups for the two-stage top-k.

    Args:
        n_words: V.

    Returns:
        (groups, words a group), both about sqrt(V), their product at least V.
    """
    size = max(1, round(math.sqrt(n_words)))
    return math.ceil(n_words / size), size
