"""Bundle in, explanations out: the class that most users touch.

    explainer = Explainer.open("model_store/demo")
    image = prepare(Path("cat.jpg").read_bytes(), explainer.input_size)
    [explanation] = explainer.explain([image], ExplainOptions(most_active=10))
    for row in range(len(explanation.filters)):
        print(explanation.filters[row], explanation.words(row))

Images that ask for the same layer and method go through the CNN together, and their filters through
the mapper in the same run: feature maps stay on the device, and only what was asked for is mapped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

import numpy as np

from lavise.bundle import Bundle, open_bundle
from lavise.catalog_table import CatalogTable, read_catalog
from lavise.errors import ImageError, RequestError
from lavise.explanation import Explanation
from lavise.graph_terms import FACTORISE_FROM
from lavise.graphs import OPEN, Graphs, Said
from lavise.masking import mask_images
from lavise.options import DEFAULT_OPTIONS, ExplainOptions, check_options

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from lavise.manifest import LayerEntry
    from lavise.runtime import Device

DEFAULT_MOST_ACTIVE: Final = 10
MAX_PROFILE_WORDS: Final = 20_000
_ASKS_KEPT: Final = 64
_MASKED_AT_ONCE: Final = 16
_NO_LOGITS: Final = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True)
class _Layer:
    entry: LayerEntry
    catalog: CatalogTable | None

    def cut(self) -> np.ndarray:
        """(C,), what counts as active when exceeded; the layer has a catalog."""
        assert self.catalog is not None  # noqa: S101 - validate() saw to it
        return self.catalog.cut(np.arange(self.entry.channels), self.entry.ceiling)

    def as_maps(self, flat: np.ndarray) -> np.ndarray:
        """(F, H, W) of (F, N)."""
        return flat.reshape(len(flat), self.entry.height, self.entry.width)


@dataclass(frozen=True)
class _Ask:
    """Options, checked, as the graphs take them.

    Attributes:
        layer: The target layer.
        method: One of lavise.options.METHODS.
        filters: (F,) indices, or OPEN.
        k: Words a filter.
        heatmaps: Whether the filters' maps come along.
        many: Whether the filters are many, for which there are graphs of their own.
    """

    layer: str
    method: str
    filters: np.ndarray
    k: int
    heatmaps: bool
    many: bool


class Explainer:
    """Explains filters with a bundle.

    Args:
        bundle: From open_bundle.
        device: Where the graphs run; ``auto`` takes CUDA where it is offered.
        device_id: Which GPU.
        threads: CPU threads; all cores when None.

    Raises:
        BundleError: A graph cannot be loaded.
        EnvironmentProblem: The device or ONNX Runtime is missing.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: Device = "auto",
        device_id: int = 0,
        threads: int | None = None,
    ) -> None:
        self.bundle = bundle
        self.digest = bundle.digest
        self.vocabulary = bundle.words()
        self.word_array = np.array(self.vocabulary, dtype=object)
        self.class_names = bundle.manifest.cnn.class_names
        self.input_size = bundle.manifest.cnn.input_size
        self._graphs = Graphs(bundle, device=device, device_id=device_id, threads=threads)
        self._layers = {
            entry.name: _Layer(entry, read_catalog(bundle, entry.name))
            for entry in bundle.manifest.cnn.layers
        }
        self._entries = {name: layer.entry for name, layer in self._layers.items()}
        self._described = {n for n, layer in self._layers.items() if layer.catalog is not None}
        # Most callers ask for the same again and again.
        ask = partial(
            _ask_of,
            layers=self._entries,
            described=self._described,
            n_words=len(self.vocabulary),
        )
        self._ask = lru_cache(maxsize=_ASKS_KEPT)(ask)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        device: Device = "auto",
        device_id: int = 0,
        threads: int | None = None,
    ) -> Explainer:
        """Opens a bundle and gets it ready to explain; see the class for the arguments."""
        return cls(open_bundle(path), device=device, device_id=device_id, threads=threads)

    @property
    def device(self) -> str:
        """Where the graphs run: ``cpu`` or ``cuda``."""
        return self._graphs.device

    @property
    def providers(self) -> list[str]:
        """ONNX Runtime's execution providers."""
        return self._graphs.providers

    @property
    def seconds(self) -> dict[str, float]:
        """Spent since it was opened in each kind of graph: ``words``, ``profile``."""
        return self._graphs.seconds

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the target layers; the first is the default."""
        return tuple(self._layers)

    def layer(self, name: str = "") -> LayerEntry:
        """What is known of a layer: name, channels, height, width, ceiling."""
        return self._layers[name or self.layers[0]].entry

    def catalog(self, layer: str = "") -> CatalogTable | None:
        """The catalog of a layer, if it was described."""
        return self._layers[layer or self.layers[0]].catalog

    def validate(self, options: ExplainOptions) -> None:
        """Checks options against the bundle, before any compute.

        Args:
            options: What a caller asks for.

        Raises:
            RequestError: An option is unknown or out of range; ``field`` names it.
        """
        check_options(options, self._entries, self._described, len(self.vocabulary))

    def explain(
        self,
        images: Sequence[np.ndarray],
        options: ExplainOptions | Sequence[ExplainOptions] = DEFAULT_OPTIONS,
    ) -> list[Explanation]:
        """Explains images.

        Args:
            images: Each (S, S, 3) uint8 RGB, S the input size (lavise.images.prepare).
            options: For all images, or one for each.

        Returns:
            One explanation an image, in order.

        Raises:
            ImageError: An image has the wrong shape or type, or the CNN gives values for it that
                are not finite.
            RequestError: An option is unknown or out of range.
        """
        each = [options] * len(images) if isinstance(options, ExplainOptions) else options
        if len(each) != len(images):
            raise RequestError(f"{len(images)} images but {len(each)} options", field="options")
        asks = [self._ask(one) for one in each]
        for image in images:
            self._check_image(image)
        alike: dict[tuple[str, str, bool], list[int]] = {}
        for i, ask in enumerate(asks):
            alike.setdefault((ask.layer, ask.method, ask.many), []).append(i)
        answers: dict[int, Explanation] = {}
        for members in alike.values():
            some = [images[i] for i in members]
            found = self._explain(members, some, [asks[i] for i in members])
            answers |= zip(members, found, strict=True)
        return [answers[i] for i in range(len(asks))]

    def profile(self, images: Sequence[np.ndarray], layer: str = "") -> ImageNumbers:
        """Scores every filter and every word on images, in one pass of the CNN.

        Args:
            images: Each (S, S, 3) uint8 RGB, S the input size; at least one.
            layer: Target layer; the first when empty.

        Returns:
            Their numbers.

        Raises:
            ImageError: An image has the wrong shape or type.
            RequestError: The layer is unknown, or the vocabulary too large to score every word.
        """
        self.validate(ExplainOptions(layer=layer))
        if len(self.vocabulary) > MAX_PROFILE_WORDS:
            raise RequestError(
                f"this bundle answers from {len(self.vocabulary):,} words; profiles score every "
                f"one of them, and accept up to {MAX_PROFILE_WORDS:,}: teach with --vocabulary "
                "concrete-nouns, top:N or file:PATH",
                field="model",
            )
        for image in images:
            self._check_image(image)
        target = self._layers[layer or self.layers[0]]
        name = target.entry.name
        scored = self._graphs.profile(name, np.stack(images))
        qualified = None
        if target.catalog is not None:
            every = np.arange(target.entry.channels)
            qualified = target.catalog.qualified(every, scored.peak, target.entry.ceiling)
        return ImageNumbers(
            activation=scored.peak if target.entry.ceiling is None else scored.mean,
            qualified=qualified,
            word_scores=scored.word_scores,
            finite=np.isfinite(scored.mean).all(axis=1),
        )

    def _check_image(self, image: np.ndarray) -> None:
        side = self.input_size
        if image.shape != (side, side, 3) or image.dtype != np.uint8:
            raise ImageError(
                f"an image is {image.dtype} {image.shape}; accepted: uint8 ({side}, {side}, 3), "
                "as lavise.images.prepare makes it",
                field="images",
            )

    def _explain(
        self, numbers: Sequence[int], images: Sequence[np.ndarray], asks: Sequence[_Ask]
    ) -> list[Explanation]:
        """Explains images that ask for the same layer and method; their numbers are for errors."""
        layer, method = asks[0].layer, asks[0].method
        if method == "image":
            return [
                self._explanation(self._image_method(number, image, ask), 0, ask)
                for number, image, ask in zip(numbers, images, asks, strict=True)
            ]
        said = self._graphs.explain(
            layer,
            method,
            images[0][None] if len(images) == 1 else np.stack(images),
            _padded([ask.filters for ask in asks]),
            max(ask.k for ask in asks),
            thresholds=self._layers[layer].cut() if method == "activation" else None,
            maps=any(ask.heatmaps for ask in asks),
        )
        for row, number in enumerate(numbers):
            _check_finite(said, row, number, layer)
        return [self._explanation(said, row, ask) for row, ask in enumerate(asks)]

    def _image_method(self, number: int, image: np.ndarray, ask: _Ask) -> Said:
        """Explains each filter by the image masked to where it exceeds T_f: one CNN pass each."""
        target = self._layers[ask.layer]
        whole = self._graphs.explain(
            ask.layer, "original", image[None], ask.filters[None], ask.k, maps=True
        )
        _check_finite(whole, 0, number, ask.layer)
        assert whole.maps is not None  # noqa: S101 - they were asked for
        filters = whole.filters[0]
        maps = target.as_maps(whole.maps[0])
        masked, kept = mask_images(image, maps, target.cut()[filters])
        ids, scores, inactive = whole.ids.copy(), whole.scores.copy(), np.ones_like(whole.inactive)
        for start in range(0, kept.size, _MASKED_AT_ONCE):
            rows = kept[start : start + _MASKED_AT_ONCE]
            again = self._graphs.explain(
                ask.layer, "original", masked(rows), filters[rows][:, None], ask.k
            )
            ids[0, rows], scores[0, rows] = again.ids[:, 0], again.scores[:, 0]
            inactive[0, rows] = False
        return replace(whole, ids=ids, scores=scores, inactive=inactive)

    def _explanation(self, said: Said, row: int, ask: _Ask) -> Explanation:
        """What was said of one image."""
        n = ask.filters.size
        maps = said.maps[row, :n] if ask.heatmaps and said.maps is not None else None
        return Explanation(
            layer=ask.layer,
            filters=said.filters[row, :n],
            inactive=said.inactive[row, :n],
            word_ids=said.ids[row, :n, : ask.k],
            scores=said.scores[row, :n, : ask.k],
            peak=said.peak[row],
            mean=said.mean[row],
            logits=_NO_LOGITS if said.logits is None else said.logits[row],
            explainer=self,
            heatmaps=None if maps is None else _heatmaps(self._layers[ask.layer].as_maps(maps)),
        )


@dataclass(frozen=True)
class ImageNumbers:
    """What comparisons rest on, for some images. B images, C filters, V words.

    Attributes:
        activation: (B, C) float32, max over space; mean where the layer saturates.
        qualified: (B, C) bool; None without a catalog.
        word_scores: (B, V) float32, max over cells of the softmax over words.
        finite: (B,) bool; the numbers of an image that is not mean nothing.
    """

    activation: np.ndarray
    qualified: np.ndarray | None
    word_scores: np.ndarray
    finite: np.ndarray


def _ask_of(
    options: ExplainOptions,
    layers: Mapping[str, LayerEntry],
    described: Collection[str],
    n_words: int,
) -> _Ask:
    """Checks options and makes of them what the graphs take; arguments as check_options()."""
    check_options(options, layers, described, n_words)
    layer = options.layer or next(iter(layers))
    channels = layers[layer].channels
    if options.filters is not None:
        filters = np.array(options.filters, dtype=np.int64)
    elif options.all_filters:
        filters = np.arange(channels)
    else:
        n = options.most_active or min(DEFAULT_MOST_ACTIVE, channels)
        filters = np.full(n, OPEN)
    many = filters.size >= FACTORISE_FROM
    return _Ask(layer, options.method, filters, options.top_k, options.heatmaps, many)


def _check_finite(said: Said, row: int, number: int, layer: str) -> None:
    """Words of a feature map with NaN in it would be as good as drawn by lot.

    Raises:
        ImageError: The CNN's values for an image are not finite.
    """
    total = said.mean[row].sum() + (0 if said.logits is None else said.logits[row].sum())
    # A sum is finite where its terms are, and one call: a request has few milliseconds.
    if not math.isfinite(total):
        raise ImageError(
            f"the CNN gives values that are not finite for image {number} on layer {layer!r}: its "
            "weights are damaged, or overflow on this image",
            field="images",
        )


def _padded(rows: Sequence[np.ndarray]) -> np.ndarray:
    """(B, F) of rows that may be shorter; what is added stands for filter 0."""
    if len(rows) == 1:
        return rows[0][None]
    filters = np.zeros((len(rows), max(row.size for row in rows)), dtype=np.int64)
    for place, row in zip(filters, rows, strict=True):
        place[: row.size] = row
    return filters


def _heatmaps(maps: np.ndarray) -> np.ndarray:
    """(F, H, W) uint8 of maps: 255 at the maximum, 0 where not active."""
    positive = np.maximum(maps, 0.0)
    top = positive.max(axis=(1, 2), keepdims=True)
    return np.asarray((positive * (255 / np.maximum(top, 1e-12))).round().astype(np.uint8))
