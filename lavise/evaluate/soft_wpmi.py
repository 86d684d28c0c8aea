"""CLIP-Dissect's score of concepts for filters: soft weighted pointwise mutual information.

    score(t, f) = log p(t | B_f) - weight * log p(t)
    p(t | B_f)  = product over images x of 1 + p(x in B_f) * (p(t | x) - 1)
    p(t)        = mean of p(t | B_f) over the filters

p(t | x) is a softmax over concepts of the image's similarities; p(x in B_f) falls evenly from
0.998 for the image that excites f most to 0.97 for the 100th, and is 0 beyond (Oikarinen and Weng,
ICLR 2023, section 3.2 and appendix A, https://arxiv.org/abs/2204.10965). Similarities come from
whoever has an image-text model: none is shipped.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy import special

from lavise.errors import RequestError

TOP_IMAGES: Final = 100
SHARPNESS: Final = 10.0
_FIRST, _LAST = 0.998, 0.97
_TINY: Final = 1e-7


def soft_wpmi(
    activation: np.ndarray,
    similarity: np.ndarray,
    *,
    top_images: int = TOP_IMAGES,
    sharpness: float = SHARPNESS,
    weight: float = 1.0,
) -> np.ndarray:
    """Scores concepts for filters.

    Args:
        activation: (n, C), one number for each image and filter, finite.
        similarity: (n, K) of images and concepts, finite, such as CLIP's cosines.
        top_images: Images that may be in B_f; all where there are fewer.
        sharpness: Multiplies similarities before the softmax.
        weight: Of log p(t).

    Returns:
        (C, K) float64, the higher the better; comparable within a filter.

    Raises:
        RequestError: The arrays do not fit together, are empty, or not finite.
    """
    _check(activation, similarity)
    p = min(top_images, len(activation))
    given = special.softmax(sharpness * similarity.astype(np.float64), axis=1)  # (n, K)
    order = np.argsort(-activation, axis=0, kind="stable")[:p]  # (p, C)
    among = _FIRST - np.arange(p) / p * (_FIRST - _LAST)
    log_given = np.zeros((activation.shape[1], similarity.shape[1]))
    for images, chance in zip(order, among, strict=True):
        log_given += np.log(1 + chance * (given[images] - 1) + _TINY)
    log_prior = special.logsumexp(log_given, axis=0) - np.log(len(log_given))
    return np.asarray(log_given - weight * log_prior)


def _check(activation: np.ndarray, similarity: np.ndarray) -> None:
    shapes = f"activation is {activation.shape}, similarity {similarity.shape}"
    if activation.ndim != 2 or similarity.ndim != 2 or len(activation) != len(similarity):
        raise RequestError(
            f"{shapes}; accepted: (images, filters) and (images, concepts) of the same images",
            field="similarity",
        )
    if not activation.size or not similarity.size:
        raise RequestError(f"{shapes}; at least one of each is needed", field="similarity")
    for name, values in (("activation", activation), ("similarity", similarity)):
        if not np.isfinite(values).all():
            raise RequestError(f"{name} has values that are not finite", field=name)
