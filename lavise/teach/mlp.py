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

    Dropout of inputs, after the first BatchNorm, is ours.

    Args:
        channels: C.
        hidden: H.
        out: Outputs.
        dropout: Of hidden units.
        input_dropout: Of normalised features.
    """

    def __init__(
        self, channels: int, hidden: int, out: int, dropout: float, input_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm_in = SharedBatchNorm(channels)
        self.first = torch.nn.Linear(channels, hidden)
        self.norm_hidden = SharedBatchNorm(hidden)
        self.second = torch.nn.Linear(hidden, out)
        self._dropout = dropout
        self._input_dropout = input_dropout
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
        rows = total or len(x)
        seen = self._dropped(self.norm_in(x), self._input_dropout, rows)  # (B, C)
        hidden = self.norm_hidden(functional.relu(self.first(seen)))  # (B, H)
        out: torch.Tensor = self.second(self._dropped(hidden, self._dropout, rows))
        return out

    def _dropped(self, x: torch.Tensor, dropout: float, total: int) -> torch.Tensor:
        """Dropout, drawn for the whole batch, so that all processes agree."""
        if not (self.training and dropout):
            return x
        kept = torch.empty(total, x.shape[1]).bernoulli_(1 - dropout).div_(1 - dropout)
        return x * kept[self._ranks.share(total)].to(x)

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
