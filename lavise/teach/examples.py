"""What a mapper is taught on: features with their concepts, in memory or read from disk."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lavise.teach.shards import Rows


@dataclass(frozen=True)
class Examples:
    """Features with their concepts.

    Attributes:
        x: (n, C) float32.
        concept: (n,) positions among the concepts, own classes first.
    """

    x: np.ndarray
    concept: np.ndarray

    @property
    def channels(self) -> int:
        """C."""
        return int(self.x.shape[1])

    @property
    def rows(self) -> int:
        """How many rows there are to read."""
        return len(self.x)

    def __len__(self) -> int:
        """How many examples."""
        return len(self.x)

    def counts(self, n_concepts: int) -> np.ndarray:
        """(n_concepts,) examples of each concept."""
        return np.bincount(self.concept, minlength=n_concepts)

    def read(self, start: int, stop: int) -> Examples:
        """The examples among some rows."""
        return Examples(self.x[start:stop], self.concept[start:stop])


class Source(Protocol):
    """Examples that are read by parts."""

    @property
    def channels(self) -> int:
        """C."""
        ...

    @property
    def rows(self) -> int:
        """How many rows there are to read; some may be no examples."""
        ...

    def __len__(self) -> int:
        """How many of the rows are examples."""
        ...

    def counts(self, n_concepts: int) -> np.ndarray:
        """(n_concepts,) examples of each concept."""
        ...

    def read(self, start: int, stop: int) -> Examples:
        """The examples among some rows, in order."""
        ...


class RegionExamples:
    """Annotated regions whose features lie on disk.

    Args:
        regions: (n, C) features.
        concept: (n,) positions among the concepts; below 0: not to be taught.
    """

    def __init__(self, regions: Rows, concept: np.ndarray) -> None:
        self._regions, self._concept = regions, concept
        self.channels = int(regions.shape[1])
        self.rows = len(concept)
        self._n = int(np.count_nonzero(concept >= 0))

    def __len__(self) -> int:
        return self._n

    def counts(self, n_concepts: int) -> np.ndarray:
        """(n_concepts,) examples of each concept."""
        return np.bincount(self._concept[self._concept >= 0], minlength=n_concepts)

    def read(self, start: int, stop: int) -> Examples:
        """The examples among some rows, in order."""
        concept = self._concept[start:stop]
        taught = concept >= 0
        x = self._regions[start:stop]
        return Examples(np.asarray(x[taught], dtype=np.float32), concept[taught].astype(np.int64))


class Joined:
    """Several sources, one after the other.

    Args:
        sources: At least one; they agree in C.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self.channels = sources[0].channels
        self._ends = list(itertools.accumulate(source.rows for source in sources))
        self.rows = self._ends[-1]

    def __len__(self) -> int:
        return sum(map(len, self._sources))

    def counts(self, n_concepts: int) -> np.ndarray:
        """(n_concepts,) examples of each concept, over all sources."""
        counts = [source.counts(n_concepts) for source in self._sources]
        return np.asarray(np.sum(counts, axis=0))

    def read(self, start: int, stop: int) -> Examples:
        """The examples among some rows, in order."""
        found = []
        for source, end in zip(self._sources, self._ends, strict=True):
            begin = end - source.rows
            if start < end and stop > begin:
                found.append(source.read(max(start - begin, 0), min(stop, end) - begin))
        return joined(found, self.channels)


def joined(parts: Sequence[Examples], channels: int) -> Examples:
    """Examples one after the other.

    Args:
        parts: Possibly none.
        channels: C.

    Returns:
        All of them.
    """
    if len(parts) == 1:
        return parts[0]
    none = np.zeros((0, channels), dtype=np.float32)
    return Examples(
        np.concatenate([none, *(part.x for part in parts)]),
        np.concatenate([np.zeros(0, dtype=np.int64), *(part.concept for part in parts)]),
    )
