"""Examples moved as others of one concept differ: what a style that was never taught takes.

Two examples of one concept differ by pose, by what is beside them and, where styles or sources are
mixed, by how the thing is drawn; by nothing that says what it is. Such differences, added to
examples of any concept, teach a mapper not to go by them. Augmentation of features after Wang et
al., "Implicit Semantic Data Augmentation" (2019, https://arxiv.org/abs/1909.12220), with real
differences in place of a Gaussian; docs/method.md has what it gave.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lavise.teach.batches import Batch


class Shifts:
    """Moves examples of a window.

    Differences are those of taught concepts: examples of own classes are drawn, not seen.

    Args:
        window: Some examples; none of its taught concepts need have two.
        strength: Up to which share of a difference an example is moved.
    """

    def __init__(self, window: Batch, strength: float) -> None:
        self._window, self._strength = window, strength
        self._order = torch.argsort(window.concept, stable=True)
        self._counts = torch.bincount(window.concept)
        self._starts = torch.cumsum(self._counts, 0) - self._counts
        n_own = window.fixed.shape[1]
        self._taught = torch.nonzero(window.concept >= n_own)[:, 0]
        # A layer behind a ReLU has no negative features.
        self._least = 0.0 if len(window) and float(window.x.min()) >= 0 else -torch.inf

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch, moved.

        Args:
            batch: Of B examples.
            generator: Decides on differences and shares; on the CPU.

        Returns:
            As many examples of the same concepts.
        """
        if not len(self._taught):
            return batch
        x, device = self._window.x, self._window.x.device
        one = self._taught[self._drawn(len(self._taught), len(batch), generator)]
        concept = self._window.concept[one]
        share = torch.rand(len(batch), generator=generator).to(device)
        count = self._counts[concept]
        # A float32 share just below 1 times a count may round up to the count.
        place = torch.minimum((share * count).long(), count - 1)
        other = self._order[self._starts[concept] + place]
        step = self._strength * torch.rand(len(batch), 1, generator=generator).to(device)
        moved = (batch.x + step * (x[other] - x[one])).clamp(min=self._least)
        # Linear, so that nothing is computed anew; what the clamp takes is small (docs/method.md).
        fixed = batch.fixed + step * (self._window.fixed[other] - self._window.fixed[one])
        return replace(batch, x=moved, fixed=fixed)

    def _drawn(self, n: int, size: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randint(n, (size,), generator=generator).to(self._window.x.device)
