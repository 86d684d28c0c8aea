"""Batches in random order, of more examples than memory holds.

Up to WINDOW rows are read once, and the order is a plain permutation of all examples. More are
read in blocks that lie together on disk. An epoch deals the blocks to windows, neighbours to
different ones, and shuffles the examples of each: whatever the number of examples, no more is in
memory, and every window has its share of every source. (An epoch that ends with a window of mostly
one source forgets the other.) A window's blocks fill two thirds of it; the third that is left is
for the labels of a million examples, which are in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from lavise.teach.shifts import Shifts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lavise.teach.examples import Source

BLOCK: Final = 1024
WINDOW: Final = 24 * BLOCK
_SMALLEST: Final = 16
_FEWEST_STEPS: Final = 16


@dataclass(frozen=True)
class Batch:
    """Some examples, on the device that teaches.

    Attributes:
        x: (B, C).
        concept: (B,).
        fixed: (B, K_own) what of the logits is not learned; K_own may be 0.
    """

    x: torch.Tensor
    concept: torch.Tensor
    fixed: torch.Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, some: torch.Tensor | slice) -> Batch:
        return Batch(self.x[some], self.concept[some], self.fixed[some])


class Batches:
    """The batches of a source, epoch by epoch.

    Args:
        source: The examples, at least two.
        wanted: Examples a batch, where there are many.
        fixed: (n, C) features, on the device, to (n, K_own) logits that are not learned.
        device: Where batches go.
        window: Rows that may be in memory.
        shift: Of lavise.teach.shifts; 0 for examples as they are.
    """

    def __init__(
        self,
        source: Source,
        wanted: int,
        fixed: Callable[[torch.Tensor], torch.Tensor],
        device: torch.device,
        window: int = WINDOW,
        shift: float = 0.0,
    ) -> None:
        self._source, self._fixed, self._device = source, fixed, device
        self._shift = shift
        self._window = max(1, window // BLOCK)
        # A few hundred examples make a few steps an epoch with large batches, and teach nothing.
        size = min(wanted, max(_SMALLEST, len(source) // _FEWEST_STEPS))
        self.size = min(size, len(source))
        self.steps = len(source) // self.size
        self._only: Batch | None = None

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Gives the batches of one epoch, as many as ``steps``.

        Args:
            generator: Decides on the order; its state at the beginning is all that it depends on.

        Yields:
            Batches of ``size`` examples.
        """
        left: Batch | None = None
        given = 0
        for window in self._windows(generator):
            shifts = Shifts(window, self._shift) if self._shift else None
            order = torch.randperm(len(window), generator=generator)
            while given < self.steps:
                taken = order[: self.size - (len(left) if left is not None else 0)]
                order = order[len(taken) :]
                batch = window[taken.to(self._device)]
                if shifts is not None:
                    batch = shifts(batch, generator)
                left = batch if left is None else _both(left, batch)
                if len(left) < self.size:
                    break  # the next window fills it up
                yield left
                given, left = given + 1, None
            del window, shifts  # before the next one is read

    def _windows(self, generator: torch.Generator) -> Iterator[Batch]:
        blocks = -(-self._source.rows // BLOCK)
        if blocks <= self._window:
            self._only = self._only or self._read(range(blocks))
            yield self._only
            return
        n_windows = -(-blocks // max(1, 2 * self._window // 3))
        dealt: list[list[int]] = [[] for _ in range(n_windows)]
        for start in range(0, blocks, n_windows):
            order = torch.randperm(n_windows, generator=generator).tolist()
            for block, window in zip(range(start, blocks), order, strict=False):
                dealt[window].append(block)
        for some in dealt:
            yield self._read(some)

    def _read(self, blocks: list[int] | range) -> Batch:
        rows = self._source.rows
        cuts = [(b * BLOCK, min((b + 1) * BLOCK, rows)) for b in blocks]
        x = np.empty((sum(stop - start for start, stop in cuts), self._source.channels), np.float32)
        concept = np.empty(len(x), dtype=np.int64)
        n = 0
        for start, stop in cuts:  # in its place at once: a window is in memory once, not twice
            found = self._source.read(start, stop)
            x[n : n + len(found)], concept[n : n + len(found)] = found.x, found.concept
            n += len(found)
        there = torch.from_numpy(x[:n]).to(self._device)
        return Batch(there, torch.from_numpy(concept[:n]).to(self._device), self._fixed(there))


def _both(one: Batch, other: Batch) -> Batch:
    return Batch(
        torch.cat([one.x, other.x]),
        torch.cat([one.concept, other.concept]),
        torch.cat([one.fixed, other.fixed]),
    )
