"""What may be asked of an explainer, and the check of it before any compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lavise.errors import RequestError
from lavise.graph_terms import GRAPH_METHODS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from lavise.manifest import LayerEntry

METHODS: Final = (*GRAPH_METHODS, "image")
"""attention is the matched projection; the others are the baselines of the paper and its code."""
_MASKING: Final = ("activation", "image")


@dataclass(frozen=True)
class ExplainOptions:
    """What to explain of an image.

    Attributes:
        layer: Target layer; the bundle's first when empty.
        filters: Channel indices, each at most once. At most one of these three is given.
        most_active: That many filters, by activation.
        all_filters: Every filter of the layer.
        top_k: Words a filter.
        method: One of METHODS.
        heatmaps: Whether the filters' maps come along.
    """

    layer: str = ""
    filters: tuple[int, ...] | None = None
    most_active: int | None = None
    all_filters: bool = False
    top_k: int = 5
    method: str = "attention"
    heatmaps: bool = False


DEFAULT_OPTIONS: Final = ExplainOptions()


def check_options(
    options: ExplainOptions,
    layers: Mapping[str, LayerEntry],
    described: Collection[str],
    n_words: int,
) -> None:
    """Checks options against what is loaded.

    Args:
        options: What a caller asks for.
        layers: Name to layer; the first is the default.
        described: Names of the layers that have a catalog.
        n_words: Size of the vocabulary.

    Raises:
        RequestError: An option is unknown or out of range; ``field`` names it.
    """
    if options.layer and options.layer not in layers:
        raise RequestError(
            f"unknown layer {options.layer!r}; accepted: {', '.join(layers)}", field="layer"
        )
    if options.method not in METHODS:
        raise RequestError(
            f"unknown method {options.method!r}; accepted: {', '.join(METHODS)}", field="method"
        )
    if not 1 <= options.top_k <= n_words:
        raise RequestError(
            f"top_k is {options.top_k}; accepted: 1 to {n_words}, the size of the vocabulary",
            field="top_k",
        )
    layer = layers[options.layer or next(iter(layers))]
    given = (options.filters is not None) + (options.most_active is not None)
    if given + options.all_filters > 1:
        raise RequestError(
            "give one of filters, most_active and all_filters, not several", field="filters"
        )
    if options.most_active is not None and not 1 <= options.most_active <= layer.channels:
        raise RequestError(
            f"most_active is {options.most_active}; accepted: 1 to {layer.channels}",
            field="most_active",
        )
    if options.filters is not None:
        _check_filters(options.filters, layer)
    if options.method in _MASKING and layer.name not in described:
        raise RequestError(
            f"method {options.method!r} masks by the thresholds of the catalog, and layer "
            f"{layer.name!r} has none: run `lavise catalog`, or use method 'attention'",
            field="method",
        )


def _check_filters(filters: Sequence[int], layer: LayerEntry) -> None:
    if not filters:
        raise RequestError("filters is empty; name at least one, or leave it out", field="filters")
    for index in filters:
        if not 0 <= index < layer.channels:
            raise RequestError(
                f"filter {index} is out of range; layer {layer.name!r} has filters 0 to "
                f"{layer.channels - 1}",
                field="filters",
            )
    if len(set(filters)) < len(filters):
        repeated = next(f for f in filters if list(filters).count(f) > 1)
        raise RequestError(f"filter {repeated} is asked for more than once", field="filters")
