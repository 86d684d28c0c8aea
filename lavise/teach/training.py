"""Trains a mapper on features. Two forms (lavise.mapper), two losses.

* ``cosine cross-entropy`` (default for regression): softmax over cosine / 0.07 to all taught
  words, the objective of CLIP's text side (Radford et al., 2021); wins over the hinge on held-out
  scenes by a wide margin (docs/method.md).
* ``hinge``: the paper's ranking loss, max(0, margin - cos(g, right) + cos(g, wrong)) summed over
  the wrong words (Yang et al., CVPR 2022, equation 3; DeViSE, Frome et al., 2013).
* ``cross-entropy``: over the concepts' logits; what ``concepts`` is taught with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch
from torch.nn import functional

from lavise.mapper import MapperWeights
from lavise.progress import Track, silent

if TYPE_CHECKING:
    from collections.abc import Callable

Loss = Literal["cosine cross-entropy", "hinge", "cross-entropy"]
HIDDEN: Final = 256
SHARPENING: Final = 1 / 0.7
"""Multiplies all logits once taught: concepts that are taught beside soft own logits are told
apart best when the blend of their words is then made sharper (docs/method.md)."""
_COSINE_TEMPERATURE: Final = 0.07
_MARGIN: Final = 1.0
_SMALLEST_BATCH: Final = 16
_FEWEST_STEPS: Final = 16


@dataclass(frozen=True)
class Examples:
    """Features with their concepts.

    Attributes:
        x: (n, C) float32.
        concept: (n,) positions among the concepts, own classes first.
    """

    x: np.ndarray
    concept: np.ndarray


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        loss: See the module.
        epochs: Passes over the examples.
        learning_rate: Adam's; the peak of one cycle when ``one_cycle``.
        one_cycle: Whether the rate rises and falls (Smith, 2018) instead of staying.
        batch: Examples a step; fewer where there are few.
        hidden: Hidden units; for ``regression`` the number of channels when 0, as in the paper.
        dropout: Of hidden units.
        weight_decay: Decoupled.
    """

    loss: Loss
    epochs: int = 12
    learning_rate: float = 1e-3
    one_cycle: bool = True
    batch: int = 256
    hidden: int = HIDDEN
    dropout: float = 0.1
    weight_decay: float = 1e-4


CONCEPTS_RECIPE: Final = Recipe("cross-entropy", epochs=10)
REGRESSION_RECIPE: Final = Recipe("cosine cross-entropy", hidden=0)
PAPER_RECIPE: Final = Recipe(
    "hinge", epochs=20, learning_rate=1e-4, one_cycle=False, batch=64, hidden=0, weight_decay=0.0
)


class _Mlp(torch.nn.Module):
    """BatchNorm, linear, ReLU, BatchNorm, dropout, linear: the paper's feature explainer."""

    def __init__(self, channels: int, hidden: int, out: int, dropout: float) -> None:
        super().__init__()
        self.norm_in = torch.nn.BatchNorm1d(channels)
        self.first = torch.nn.Linear(channels, hidden)
        self.norm_hidden = torch.nn.BatchNorm1d(hidden)
        self.dropout = torch.nn.Dropout(dropout)
        self.second = torch.nn.Linear(hidden, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C) to (B, out)."""
        hidden = functional.relu(self.first(self.norm_in(x)))
        out: torch.Tensor = self.second(self.dropout(self.norm_hidden(hidden)))
        return out

    def folded(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The two linears with the eval-mode BatchNorms folded in, in float64 on the way.

        Returns:
            W_first (C, H), b_first (H,), W_second (H, out), b_second (out,).
        """
        scale, shift = _affine(self.norm_in)
        W = self.first.weight.detach().double()
        W_first, b_first = W * scale, self.first.bias.detach().double() + W @ shift
        scale, shift = _affine(self.norm_hidden)
        W = self.second.weight.detach().double()
        W_second, b_second = W * scale, self.second.bias.detach().double() + W @ shift
        first, second = W_first.T.float().numpy(), W_second.T.float().numpy()
        return first, b_first.float().numpy(), second, b_second.float().numpy()


def _affine(norm: torch.nn.BatchNorm1d) -> tuple[torch.Tensor, torch.Tensor]:
    """A BatchNorm in eval mode as y = scale·x + shift."""
    assert norm.running_mean is not None  # noqa: S101 - statistics are tracked by default
    assert norm.running_var is not None  # noqa: S101 - likewise
    scale = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.detach().double() - norm.running_mean.double() * scale


def train_concepts(
    examples: Examples,
    E: np.ndarray,
    concepts: tuple[str, ...],
    own: tuple[np.ndarray, np.ndarray] | None,
    *,
    seed: int,
    recipe: Recipe = CONCEPTS_RECIPE,
    track: Track = silent,
) -> MapperWeights:
    """Trains the ``concepts`` form; the CNN's own logits, where given, stay as they are.

    Args:
        examples: Of own classes and taught categories alike.
        E: (K, D) word vectors of the concepts, own classes first.
        concepts: Their names.
        own: W (K_own, C) and b (K_own,) of the own classes' logits, or None.
        seed: Makes the run repeatable.
        recipe: How.
        track: Shows progress.

    Returns:
        The mapper.
    """
    channels = examples.x.shape[1]
    n_own = 0 if own is None else len(own[0])
    W_own = np.zeros((channels, 0), dtype=np.float32) if own is None else own[0].T
    b_own = np.zeros(0, dtype=np.float32) if own is None else own[1]
    n_taught = len(concepts) - n_own
    if n_taught == 0:
        none = np.zeros((0, 0), dtype=np.float32)
        W, b = SHARPENING * W_own, SHARPENING * b_own
        return MapperWeights("concepts", n_own, 0, W, b, none, none.ravel(), E, concepts)
    torch.manual_seed(seed)
    mlp = _Mlp(channels, recipe.hidden, n_taught, recipe.dropout)
    # The own logits never change: computed once, they are only looked up while training.
    own_logits = torch.from_numpy(examples.x @ W_own + b_own)

    def loss(x: torch.Tensor, some: torch.Tensor, concept: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(torch.cat([own_logits[some], mlp(x)], dim=1), concept)

    _fit(mlp, loss, examples, recipe, seed, track)
    W, b, W_second, b_second = mlp.folded()
    return MapperWeights(
        form="concepts",
        n_own=n_own,
        n_hidden=recipe.hidden,
        W_first=np.concatenate([SHARPENING * W_own, W], axis=1),
        b_first=np.concatenate([SHARPENING * b_own, b]),
        W_second=SHARPENING * W_second,
        b_second=SHARPENING * b_second,
        E=E,
        concepts=concepts,
    )


def train_regression(
    examples: Examples,
    E: np.ndarray,
    concepts: tuple[str, ...],
    *,
    seed: int,
    recipe: Recipe = REGRESSION_RECIPE,
    track: Track = silent,
) -> MapperWeights:
    """Trains the ``regression`` form: features straight to word vectors.

    Args:
        examples: Of all sources.
        E: (K, D) word vectors of the concepts.
        concepts: Their names.
        seed: Makes the run repeatable.
        recipe: How; its loss is one of the two over cosines.
        track: Shows progress.

    Returns:
        The mapper.
    """
    channels, dimension = examples.x.shape[1], E.shape[1]
    hidden = recipe.hidden or channels
    torch.manual_seed(seed)
    mlp = _Mlp(channels, hidden, dimension, recipe.dropout)
    words = functional.normalize(torch.from_numpy(E), dim=1)

    def loss(x: torch.Tensor, _some: torch.Tensor, concept: torch.Tensor) -> torch.Tensor:
        cosine = functional.normalize(mlp(x), dim=1) @ words.T  # (B, K)
        if recipe.loss == "hinge":
            return hinge(cosine, concept)
        return functional.cross_entropy(cosine / _COSINE_TEMPERATURE, concept)

    _fit(mlp, loss, examples, recipe, seed, track)
    W, b, W_second, b_second = mlp.folded()
    none = np.zeros((0, dimension), dtype=np.float32)
    return MapperWeights("regression", 0, hidden, W, b, W_second, b_second, none, concepts)


def hinge(cosine: torch.Tensor, concept: torch.Tensor) -> torch.Tensor:
    """The paper's cosine margin ranking loss (equation 3), margin 1.

    Args:
        cosine: (B, K) between each mapped feature and each taught word.
        concept: (B,) the right ones.

    Returns:
        The sum over wrong words, averaged over the batch.
    """
    right = cosine.gather(1, concept[:, None])  # (B, 1)
    each = functional.relu(_MARGIN - right + cosine)
    wrong = torch.ones_like(cosine).scatter(1, concept[:, None], 0.0)
    return (each * wrong).sum(dim=1).mean()


def _fit(
    mlp: _Mlp,
    loss: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    examples: Examples,
    recipe: Recipe,
    seed: int,
    track: Track,
) -> None:
    """Runs the recipe on a loss of (features, positions, concepts); ends in eval mode."""
    x, concept = torch.from_numpy(examples.x), torch.from_numpy(examples.concept)
    # A few hundred examples make a few steps an epoch with large batches, and teach nothing.
    batch = min(recipe.batch, max(_SMALLEST_BATCH, len(x) // _FEWEST_STEPS))
    steps = max(1, len(x) // batch)
    optimiser = torch.optim.AdamW(
        mlp.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = (
        torch.optim.lr_scheduler.OneCycleLR(
            optimiser, recipe.learning_rate, total_steps=recipe.epochs * steps
        )
        if recipe.one_cycle
        else None
    )
    generator = torch.Generator().manual_seed(seed)
    mlp.train()
    for _ in track(range(recipe.epochs), "mapper", recipe.epochs):
        order = torch.randperm(len(x), generator=generator)
        for step in range(steps):
            some = order[step * batch : (step + 1) * batch]
            if len(some) < 2:
                continue  # BatchNorm has no variance of one example
            optimiser.zero_grad(set_to_none=True)
            loss(x[some], some, concept[some]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if schedule is not None:
                schedule.step()
    mlp.eval()
