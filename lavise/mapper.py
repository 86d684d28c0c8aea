"""The mapper g: R^C -> R^D, as plain arrays: what teaching makes and the words graph runs.

Two forms behind one set of arrays (H hidden units, K_own and K taught concepts):

* ``concepts`` (default): logits = [W_own·v + b_own ; W_2·relu(W_1·v + b_1) + b_2], softmax, convex
  combination of the concepts' word vectors E. With one source, one of the two parts is absent.
  Decoding by convex combination is ConSE (Norouzi et al., 2014, https://arxiv.org/abs/1312.5650).
* ``regression``: W_2·relu(W_1·v + b_1) + b_2, the paper's feature explainer (Yang et al., CVPR
  2022, section 3.2), its BatchNorms folded into the linears.

Both first linears share one matrix, ``W_first`` (C, K_own + H), so that one product serves both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Form = Literal["concepts", "regression"]


@dataclass(frozen=True)
class MapperWeights:
    """A mapper ready to run.

    Attributes:
        form: Which of the two forms.
        n_own: K_own, rows of the CNN's own classifier, first in W_first.
        n_hidden: H, hidden units, after them.
        W_first: (C, K_own + H) float32.
        b_first: (K_own + H,) float32.
        W_second: (H, K) or (H, D) float32; (0, 0) without hidden units.
        b_second: (K,) or (D,) float32.
        E: (K_own + K, D) unit-norm word vectors of the concepts; (0, D) for ``regression``.
        concepts: Names of the concepts, own classes first.
        logits_scale: What the own classes' logits are multiplied by to be those of the CNN's own
            classifier on the layer's mean over space; None where they are not made of it.
    """

    form: Form
    n_own: int
    n_hidden: int
    W_first: np.ndarray
    b_first: np.ndarray
    W_second: np.ndarray
    b_second: np.ndarray
    E: np.ndarray
    concepts: tuple[str, ...]
    logits_scale: float | None = None

    def __call__(self, v: np.ndarray) -> np.ndarray:
        """Maps visual features into word space.

        Args:
            v: (R, C) float32 features.

        Returns:
            (R, D) vectors, not normalised.
        """
        out = self.posterior(v)
        return np.asarray(out @ self.E) if self.form == "concepts" else out

    def posterior(self, v: np.ndarray) -> np.ndarray:
        """The concepts' posterior; for ``regression`` the word vector itself.

        Args:
            v: (R, C) float32 features.

        Returns:
            (R, K_own + K), rows summing to 1; (R, D) for ``regression``.
        """
        first = v @ self.W_first + self.b_first  # (R, K_own + H)
        hidden = np.maximum(first[:, self.n_own :], 0.0)  # (R, H)
        second = hidden @ self.W_second + self.b_second if self.n_hidden else hidden
        if self.form == "regression":
            return np.asarray(second)
        logits = np.concatenate([first[:, : self.n_own], second], axis=1)  # (R, K_own + K)
        logits -= logits.max(axis=1, keepdims=True)
        posterior = np.exp(logits)
        posterior /= posterior.sum(axis=1, keepdims=True)
        return np.asarray(posterior)
