"""Rows explain-10-filters and explain-all-filters: what words cost on top of the CNN.

The baseline is the CNN from pixels to logits and nothing else, in an ONNX Runtime session of its
own, opened the same way, on the same prepared image: what a classifier in production does. The
candidate is Explainer.explain and reading every word that it found. Where ONNX Runtime offers CUDA,
both rows are measured there as well, under names that end in -cuda.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from benchmarks.harness import Row, at_most, paired
from benchmarks.material import bundle, photograph, whole_cnn
from lavise.explainer import Explainer
from lavise.images import prepare
from lavise.options import ExplainOptions
from lavise.runtime import open_session, resolve_device

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.harness import Bench

_CALLS = 25


def _measure(name: str, options: ExplainOptions, bar: float) -> Iterable[Row]:
    yield _against_cnn(name, options, bar, "cpu")
    if resolve_device("auto") == "cuda":
        yield _against_cnn(f"{name}-cuda", options, bar, "cuda")


def _against_cnn(
    name: str, options: ExplainOptions, bar: float, device: Literal["cpu", "cuda"]
) -> Row:
    explainer = Explainer(bundle(), device=device)
    image = prepare(photograph(), explainer.input_size)
    cnn = open_session(whole_cnn(), device=device)
    batch = image[None]

    def bare() -> None:
        cnn.run(["logits"], {"images": batch})

    def explain() -> None:
        [explanation] = explainer.explain([image], options)
        for row in range(len(explanation.filters)):
            explanation.words(row)

    rounds = paired(bare, explain, calls=_CALLS, warm_up=10)
    [explanation] = explainer.explain([image], options)
    active = int((~explanation.inactive).sum())
    bare_ms = sorted(r.baseline for r in rounds)[len(rounds) // 2] * 1e3
    return at_most(
        name,
        [r.candidate / r.baseline for r in rounds],
        bar=bar,
        unit="x",
        baseline=f"bare CNN session, one image, {bare_ms:.1f} ms; {active} of the "
        f"{len(explanation.filters)} filters are active on the photograph; "
        f"{len(explainer.vocabulary):,} words, k = {options.top_k}",
    )


def ten_filters() -> Iterable[Row]:
    """One image, the 10 most active filters."""
    return _measure("explain-10-filters", ExplainOptions(most_active=10), 1.08)


def all_filters() -> Iterable[Row]:
    """One image, every filter of the layer."""
    return _measure("explain-all-filters", ExplainOptions(all_filters=True), 2.2)


ROWS: dict[str, Bench] = {"explain-10-filters": ten_filters, "explain-all-filters": all_filters}
