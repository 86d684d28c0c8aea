"""The network that is fitted: the paper's feature explainer, and the plain linears it becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from lavise.teach.parallel import ALONE, Ranks, SharedBatchNorm

if TYPE_CHECKING:
    import numpy as np


class Mlp(torch.nn.Module):
    """BatchNorm, linear, ReLU, BatchNorm, dropout, linear (Yang et al., CVPR 2022, section 3.2).

    Args:
        channels: C.
        hidden: H.
        out: Outputs.
        dropout: Of hidden units.
    """

    def __init__(self, channels: int, hidden: int, out: int, dropout: float) -> None:
        super().__init__()
        self.norm_in = SharedBatchNorm(channels)
        self.first = torch.nn.Linear(channels, hidden)
        self.norm_hidden = SharedBatchNorm(hidden)
        self.second = torch.nn.Linear(hidden, out)
        self._dropout = dropout
        self._ranks = ALONE

    def share(self, ranks: Ranks) -> None:
        """Makes one network of those of several processes, each of which has a share of a batch."""
        self._ranks = self.norm_in.ranks = self.norm_hidden.ranks = ranks

    def forward(self, x: torch.Tensor, total: int | None = None) -> torch.Tensor:
        """Runs the network.

        Args:
            x: (B, C), this process's rows of a batch.
            total: Rows of the whole batch; B when None.

        Returns:
            (B, out).
        """
        hidden = self.norm_hidden(functional.relu(self.first(self.norm_in(x))))  # (B, H)
        if self.training and self._dropout:
            hidden = hidden * self._kept(total or len(x)).to(hidden)
        out: torch.Tensor = self.second(hidden)
        return out

    def _kept(self, total: int) -> torch.Tensor:
        """What dropout multiplies by: drawn for the whole batch, so that all processes agree."""
        kept = torch.empty(total, self.second.in_features).bernoulli_(1 - self._dropout)
        return kept.div_(1 - self._dropout)[self._ranks.share(total)]

    def folded(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The two linears with the eval-mode BatchNorms folded in, in float64 on the way.

        Returns:
            W_first (C, H), b_first (H,), W_second (H, out), b_second (out,).
        """
        W_first, b_first = _fold(self.norm_in, self.first)
        W_second, b_second = _fold(self.norm_hidden, self.second)
        return W_first, b_first, W_second, b_second


def _fold(norm: SharedBatchNorm, linear: torch.nn.Linear) -> tuple[np.ndarray, np.ndarray]:
    """W (in, out) and b (out,) of a linear with the BatchNorm before it: y = scale·x + shift."""
    assert norm.running_mean is not None  # noqa: S101 - statistics are tracked by default
    assert norm.running_var is not None  # noqa: S101 - likewise
    scale = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
    shift = norm.bias.detach().double() - norm.running_mean.double() * scale
    W = linear.weight.detach().double()
    b = linear.bias.detach().double() + W @ shift
    return (W * scale).T.float().cpu().numpy(), b.float().cpu().numpy()
