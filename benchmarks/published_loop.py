"""Row per-filter-speedup: all filters in one call against the published loop over filters.

The baseline does, in eager torch with batches of one and for one filter after the other, what the
published code is described to do: run the CNN on the image, pool the feature map with
mean(A·A_f/|A_f|), map the result with two linear layers, take the cosine to all 400,000 words of
GloVe, and sort all of them. Its mapper is untrained: the time does not depend on the weights.

The candidate explains all filters of the image in one call. Two rows:

* per-filter-speedup: as the bundle is served, with its vocabulary restricted before scoring. The
  published code restricts after sorting, so that it has to score and sort all words.
* per-filter-speedup-all-words: from the same 400,000 words.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from benchmarks.harness import Row, at_least, paired
from benchmarks.material import all_words_bundle, bundle, photograph
from lavise.cnn import load_cnn
from lavise.explainer import Explainer
from lavise.images import prepare
from lavise.options import ExplainOptions
from lavise.words import load_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.harness import Bench
    from lavise.bundle import Bundle

_LOOPED: Final = 8
"""Filters that the loop explains in one round: all of them would take minutes."""
_HIDDEN: Final = 512
_TOP_K: Final = 5


@cache
def _words() -> torch.Tensor:
    return torch.from_numpy(load_words("glove-50d").vectors)


def _published_loop(image: np.ndarray, filters: np.ndarray) -> Callable[[], None]:
    cnn = load_cnn("efficientnet_lite0")
    assert cnn.module is not None
    kept: list[torch.Tensor] = []
    layer = cnn.module.get_submodule(cnn.default_layer)
    layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    words = _words()
    channels, dimension = bundle().manifest.cnn.layers[0].channels, words.shape[1]
    mapper = torch.nn.Sequential(
        torch.nn.Linear(channels, _HIDDEN), torch.nn.ReLU(), torch.nn.Linear(_HIDDEN, dimension)
    ).eval()
    mean = torch.tensor(cnn.mean).view(1, 3, 1, 1)
    std = torch.tensor(cnn.std).view(1, 3, 1, 1)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    module = cnn.module

    @torch.inference_mode()
    def loop() -> None:
        for index in filters:
            kept.clear()
            module((pixels.float() - mean) / std)
            A = kept[0][0]  # (C, H, W)
            A_f = A[index]
            v = (A * (A_f / A_f.norm().clamp(min=1e-12))).mean(dim=(1, 2))  # (C,)
            g_v = mapper(v[None])[0]  # (D,)
            cosine = torch.nn.functional.cosine_similarity(words, g_v[None], dim=1)  # (V,)
            cosine.sort(descending=True).indices[:_TOP_K].tolist()

    return loop


def _measure(name: str, source: Bundle, rounds: int) -> Row:
    explainer = Explainer(source, device="cpu")
    image = prepare(photograph(), explainer.input_size)
    [most_active] = explainer.explain([image], ExplainOptions(most_active=_LOOPED))
    options = ExplainOptions(all_filters=True, top_k=_TOP_K)
    n_filters = explainer.layer().channels
    [explanation] = explainer.explain([image], options)
    n_active = int((~explanation.inactive).sum())

    def explain() -> None:
        [explanation] = explainer.explain([image], options)
        for row in range(n_filters):
            explanation.words(row)

    found = paired(_published_loop(image, most_active.filters), explain, rounds=rounds)
    loop_ms = np.median([r.baseline for r in found]) / _LOOPED * 1e3
    ours_ms = np.median([r.candidate for r in found]) / n_filters * 1e3
    return at_least(
        name,
        [(r.baseline / _LOOPED) / (r.candidate / n_filters) for r in found],
        bar=1000,
        unit="x",
        baseline=f"the published loop, eager torch, 400,000 words, full sort: {loop_ms:.0f} ms a "
        f"filter; here {ours_ms:.3f} ms a filter, all {n_filters:,} filters ({n_active} active) "
        f"in one call, {len(explainer.vocabulary):,} words",
    )


def speedup() -> Iterable[Row]:
    """As served."""
    yield _measure("per-filter-speedup", bundle(), rounds=9)


def speedup_all_words() -> Iterable[Row]:
    """With the vocabulary of the baseline."""
    yield _measure("per-filter-speedup-all-words", all_words_bundle(), rounds=7)


ROWS: dict[str, Bench] = {
    "per-filter-speedup": speedup,
    "per-filter-speedup-all-words": speedup_all_words,
}
