"""Trains a mapper on features: its two forms (lavise.mapper), its losses (lavise.teach.recipes)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch.nn import functional

from lavise.mapper import MapperWeights
from lavise.teach.examples import Examples
from lavise.teach.fitting import PLAINLY, Running, fit
from lavise.teach.mlp import Mlp
from lavise.teach.recipes import CONCEPTS_RECIPE, PAPER_RECIPE, REGRESSION_RECIPE, Recipe

if TYPE_CHECKING:
    from lavise.teach.batches import Batch
    from lavise.teach.examples import Source

__all__ = [
    "CALIBRATION",
    "CONCEPTS_RECIPE",
    "PAPER_RECIPE",
    "REGRESSION_RECIPE",
    "SHARPENING",
    "Examples",
    "Recipe",
    "hinge",
    "train_concepts",
    "train_regression",
]

SHARPENING: Final = 1 / 0.7
"""Multiplies all logits once taught: concepts that are taught beside soft own logits are told
apart best when the blend of their words is then made sharper (docs/method.md)."""
CALIBRATION: Final = 1.0
"""Added to the taught logits where there are own ones, which are never fitted to be held back and
take too large a share of regions that are no class of theirs (docs/method.md)."""
_COSINE_TEMPERATURE: Final = 0.07
_MARGIN: Final = 1.0


def train_concepts(
    examples: Source,
    E: np.ndarray,
    concepts: tuple[str, ...],
    own: tuple[np.ndarray, np.ndarray] | None,
    *,
    seed: int,
    recipe: Recipe = CONCEPTS_RECIPE,
    running: Running = PLAINLY,
) -> MapperWeights:
    """Trains the ``concepts`` form; the CNN's own logits, where given, stay as they are.

    Args:
        examples: Of own classes and taught categories alike.
        E: (K, D) word vectors of the concepts, own classes first.
        concepts: Their names.
        own: W (K_own, C) and b (K_own,) of the own classes' logits, or None.
        seed: Makes the run repeatable.
        recipe: How.
        running: How it is run.

    Returns:
        The mapper.
    """
    channels = examples.channels
    n_own = 0 if own is None else len(own[0])
    W_own = np.zeros((channels, 0), dtype=np.float32) if own is None else own[0].T
    b_own = np.zeros(0, dtype=np.float32) if own is None else own[1]
    n_taught = len(concepts) - n_own
    if n_taught == 0:
        none = np.zeros((0, 0), dtype=np.float32)
        W, b = SHARPENING * W_own, SHARPENING * b_own
        return MapperWeights("concepts", n_own, 0, W, b, none, none.ravel(), E, concepts)
    torch.manual_seed(seed)
    mlp = Mlp(channels, recipe.hidden, n_taught, recipe.dropout, recipe.input_dropout)

    prior = torch.from_numpy(_prior(examples.counts(len(concepts)))).to(running.device)

    def loss(taught: torch.Tensor, batch: Batch) -> torch.Tensor:
        logits = torch.cat([batch.fixed, taught], dim=1) + prior
        return functional.cross_entropy(logits, batch.concept)

    def made() -> MapperWeights:
        W, b, W_second, b_second = mlp.folded()
        return MapperWeights(
            form="concepts",
            n_own=n_own,
            n_hidden=recipe.hidden,
            W_first=np.concatenate([SHARPENING * W_own, W], axis=1),
            b_first=np.concatenate([SHARPENING * b_own, b]),
            W_second=SHARPENING * W_second,
            b_second=SHARPENING * b_second + (CALIBRATION if n_own else 0.0),
            E=E,
            concepts=concepts,
        )

    # The own logits never change: computed once a window, they are only looked up while training.
    fit(mlp, loss, lambda x: _linear(x, W_own, b_own), made, examples, recipe, seed, running)
    return made()


def _prior(counts: np.ndarray) -> np.ndarray:
    """Logit adjustment (Menon et al., 2021), so that a large source does not drown a small one.

    What is frequent in teaching is expected there by so much, and gets no advantage afterwards.
    Differences up to twice the mean either way are left alone: docs/method.md.

    Args:
        counts: (K,) examples of each concept.

    Returns:
        (K,) float32, added to the logits while training.
    """
    ratio = np.log(np.maximum(counts, 1) / max(counts.mean(), 1.0))
    beyond = np.maximum(np.abs(ratio) - np.log(2.0), 0.0)
    return np.asarray(np.sign(ratio) * beyond, dtype=np.float32)


def _linear(x: torch.Tensor, W: np.ndarray, b: np.ndarray) -> torch.Tensor:
    """x·W + b where x is."""
    if x.device.type == "cpu":
        return torch.from_numpy(x.numpy() @ W + b)
    W_there = torch.from_numpy(np.ascontiguousarray(W)).to(x.device)
    return x @ W_there + torch.from_numpy(np.asarray(b)).to(x.device)


def train_regression(
    examples: Source,
    E: np.ndarray,
    concepts: tuple[str, ...],
    *,
    seed: int,
    recipe: Recipe = REGRESSION_RECIPE,
    running: Running = PLAINLY,
) -> MapperWeights:
    """Trains the ``regression`` form: features straight to word vectors.

    Args:
        examples: Of all sources.
        E: (K, D) word vectors of the concepts.
        concepts: Their names.
        seed: Makes the run repeatable.
        recipe: How; its loss is one of the two over cosines.
        running: How it is run.

    Returns:
        The mapper.
    """
    channels, dimension = examples.channels, E.shape[1]
    hidden = recipe.hidden or channels
    torch.manual_seed(seed)
    mlp = Mlp(channels, hidden, dimension, recipe.dropout, recipe.input_dropout)
    words = functional.normalize(torch.from_numpy(E), dim=1).to(running.device)

    def loss(mapped: torch.Tensor, batch: Batch) -> torch.Tensor:
        cosine = functional.normalize(mapped, dim=1) @ words.T  # (B, K)
        if recipe.loss == "hinge":
            return hinge(cosine, batch.concept)
        return functional.cross_entropy(cosine / _COSINE_TEMPERATURE, batch.concept)

    def made() -> MapperWeights:
        W, b, W_second, b_second = mlp.folded()
        none = np.zeros((0, dimension), dtype=np.float32)
        return MapperWeights("regression", 0, hidden, W, b, W_second, b_second, none, concepts)

    fit(mlp, loss, lambda x: x[:, :0], made, examples, recipe, seed, running)
    return made()


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
