"""Bundle in, explanations out: the class that most users touch.

    explainer = Explainer.open("model_store/demo")
    image = prepare(Path("cat.jpg").read_bytes(), explainer.input_size)
    [explanation] = explainer.explain([image], ExplainOptions(most_active=10))
    for row in range(len(explanation.filters)):
        print(explanation.filters[row], explanation.words(row))

One CNN pass for all images; feature maps stay on the device; only the requested filters are
mapped, all of them in one further pass.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lavise.bundle import Bundle, open_bundle
from lavise.catalog_table import CatalogTable, read_catalog
from lavise.errors import ImageError, RequestError
from lavise.explanation import Explanation
from lavise.graph_terms import FACTORISE_FROM
from lavise.graphs import Graphs, Said, Seen, on_host
from lavise.masking import mask_images
from lavise.options import DEFAULT_OPTIONS, ExplainOptions, check_options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lavise.manifest import LayerEntry
    from lavise.runtime import Device

DEFAULT_MOST_ACTIVE: Final = 10
MAX_PROFILE_WORDS: Final = 20_000
_NO_LOGITS: Final = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True)
class _Layer:
    entry: LayerEntry
    catalog: CatalogTable | None


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
        self.class_names = bundle.manifest.cnn.class_names
        self.input_size = bundle.manifest.cnn.input_size
        self._graphs = Graphs(bundle, device=device, device_id=device_id, threads=threads)
        self._graphs.warm_up()
        self._layers = {
            entry.name: _Layer(entry, read_catalog(bundle, entry.name))
            for entry in bundle.manifest.cnn.layers
        }
        self._entries = {name: layer.entry for name, layer in self._layers.items()}
        self._described = {n for n, layer in self._layers.items() if layer.catalog is not None}

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
        """ONNX Runtime's execution providers, for the CNN."""
        return self._graphs.providers

    @property
    def seconds(self) -> dict[str, float]:
        """Spent since it was opened in each kind of graph: ``cnn``, ``words``, ``profile``."""
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
        """Explains images in one pass of the CNN.

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
        asked = [options] * len(images) if isinstance(options, ExplainOptions) else list(options)
        if len(asked) != len(images):
            raise RequestError(f"{len(images)} images but {len(asked)} options", field="options")
        for one in dict.fromkeys(asked):
            self.validate(one)
        for image in images:
            self._check_image(image)
        if not images:
            return []
        batch = images[0][None] if len(images) == 1 else np.stack(images)
        seen = self._graphs.see(batch, {one.layer or self.layers[0] for one in asked})
        for i, one in enumerate(asked):
            self._check_finite(seen.mean[one.layer or self.layers[0]][i], i, one)
        chosen = [self._choose(seen, i, one) for i, one in enumerate(asked)]
        answers = self._words(seen, asked, chosen, batch)
        logits = self._logits(seen, answers, asked)
        return [
            self._explanation(seen, i, one, chosen[i], answers[i], logits[i])
            for i, one in enumerate(asked)
        ]

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
        seen = self._graphs.see(np.stack(images), {name})
        qualified = None
        if target.catalog is not None:
            every = np.arange(target.entry.channels)
            qualified = target.catalog.qualified(every, seen.peak[name], target.entry.ceiling)
        return ImageNumbers(
            activation=_activation(seen, target.entry),
            qualified=qualified,
            word_scores=self._graphs.score_words(name, seen),
            finite=np.isfinite(seen.mean[name]).all(axis=1),
        )

    def _check_image(self, image: np.ndarray) -> None:
        side = self.input_size
        if image.shape != (side, side, 3) or image.dtype != np.uint8:
            raise ImageError(
                f"an image is {image.dtype} {image.shape}; accepted: uint8 ({side}, {side}, 3), "
                "as lavise.images.prepare makes it",
                field="images",
            )

    def _check_finite(self, values: np.ndarray, i: int, options: ExplainOptions) -> None:
        """Words of a feature map with NaN in it would be as good as drawn by lot."""
        # A sum is finite where its terms are, and one call: a request has few milliseconds.
        if not math.isfinite(values.sum()):
            layer = options.layer or self.layers[0]
            raise ImageError(
                f"the CNN gives values that are not finite for image {i} on layer {layer!r}: its "
                "weights are damaged, or overflow on this image",
                field="images",
            )

    def _choose(self, seen: Seen, i: int, options: ExplainOptions) -> np.ndarray:
        """The filters to explain on one image, (F,) int64."""
        layer = self._layers[options.layer or self.layers[0]]
        if options.filters is not None:
            return np.array(options.filters, dtype=np.int64)
        if options.all_filters:
            return np.arange(layer.entry.channels)
        activation = _activation(seen, layer.entry)[i]
        n = options.most_active or min(DEFAULT_MOST_ACTIVE, layer.entry.channels)
        if n < activation.size:
            best = np.argpartition(-activation, n)[:n]
            return np.asarray(best[np.argsort(-activation[best], kind="stable")])
        return np.argsort(-activation, kind="stable")

    def _words(
        self,
        seen: Seen,
        asked: Sequence[ExplainOptions],
        chosen: Sequence[np.ndarray],
        batch: np.ndarray,
    ) -> list[_Answer]:
        """Runs the words graphs: images that ask alike share one run."""
        alike: dict[tuple[str, str, bool], list[int]] = defaultdict(list)
        active = []
        for i, (one, filters) in enumerate(zip(asked, chosen, strict=True)):
            name = one.layer or self.layers[0]
            rows = np.arange(filters.size)
            if one.method == "attention":
                # A map that is nowhere positive attends to nothing: no need to compute it.
                rows = np.flatnonzero(seen.peak[name][i][filters] > 0)
            active.append(rows)
            alike[name, one.method, rows.size >= FACTORISE_FROM].append(i)
        answers: dict[int, _Answer] = {}
        for (name, method, _), members in alike.items():
            k = max(asked[i].top_k for i in members)
            if method == "image":
                for i in members:
                    answers[i] = self._image_method(seen, name, i, chosen[i], k, batch[i])
                continue
            wide = max(active[i].size for i in members)
            if wide == 0:
                answers |= {i: _Answer.empty(chosen[i].size, k) for i in members}
                continue
            padded = np.zeros((len(members), wide), dtype=np.int64)
            for row, i in enumerate(members):
                padded[row, : active[i].size] = chosen[i][active[i]]
            threshold = self._cut(name, padded) if method == "activation" else None
            said = self._graphs.say(name, method, seen, members, padded, k, threshold)
            for row, i in enumerate(members):
                answers[i] = _Answer.of(said, row, active[i], chosen[i].size, k)
        return [answers[i] for i in range(len(asked))]

    def _cut(self, name: str, filters: np.ndarray) -> np.ndarray:
        """What counts as active when exceeded, in the shape of the filters."""
        layer = self._layers[name]
        assert layer.catalog is not None  # noqa: S101 - validate() saw to it
        return layer.catalog.cut(filters, layer.entry.ceiling)

    def _image_method(
        self, seen: Seen, layer: str, i: int, filters: np.ndarray, k: int, image: np.ndarray
    ) -> _Answer:
        """Explains each filter by the image masked to where it exceeds T_f: one CNN pass each."""
        maps = on_host(seen.map(layer, [i]))[0, filters]  # (F, H, W)
        masked, kept = mask_images(image, maps, self._cut(layer, filters))
        answer = _Answer.empty(filters.size, k)
        for start in range(0, kept.size, 16):
            rows = kept[start : start + 16]
            again = self._graphs.see(masked(rows), {layer})
            members = range(rows.size)
            said = self._graphs.say(layer, "original", again, members, filters[rows][:, None], k)
            answer.ids[rows], answer.scores[rows] = said.ids[:, 0], said.scores[:, 0]
            answer.inactive[rows] = False
        return answer

    def _logits(
        self, seen: Seen, answers: Sequence[_Answer], asked: Sequence[ExplainOptions]
    ) -> list[np.ndarray]:
        """What the CNN's classifier says of each image: once for all that no words graph told."""
        if not self._graphs.has_head:
            return [_NO_LOGITS] * len(answers)
        untold = [i for i, answer in enumerate(answers) if answer.logits is None]
        found = dict(zip(untold, self._graphs.logits(seen, untold), strict=True)) if untold else {}
        logits = [
            found[i] if answer.logits is None else answer.logits for i, answer in enumerate(answers)
        ]
        for i, one in enumerate(asked):
            self._check_finite(logits[i], i, one)
        return logits

    def _explanation(
        self,
        seen: Seen,
        i: int,
        options: ExplainOptions,
        filters: np.ndarray,
        answer: _Answer,
        logits: np.ndarray,
    ) -> Explanation:
        layer = self._layers[options.layer or self.layers[0]]
        name = layer.entry.name
        threshold = qualified = None
        if layer.catalog is not None:
            threshold = layer.catalog.threshold[filters]
            peak = seen.peak[name][i, filters]
            qualified = layer.catalog.qualified(filters, peak, layer.entry.ceiling)
        return Explanation(
            layer=name,
            filters=filters,
            activation=_activation(seen, layer.entry)[i, filters],
            threshold=threshold,
            qualified=qualified,
            inactive=answer.inactive,
            word_ids=answer.ids[:, : options.top_k],
            scores=answer.scores[:, : options.top_k],
            logits=logits,
            explainer=self,
            heatmaps=_heatmaps(seen.map(name, [i]), filters) if options.heatmaps else None,
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


@dataclass(frozen=True)
class _Answer:
    """Words of one image's filters: (F, k) ids and scores, (F,) inactive; logits if told."""

    ids: np.ndarray
    scores: np.ndarray
    inactive: np.ndarray
    logits: np.ndarray | None = None

    @classmethod
    def empty(cls, n_filters: int, k: int, logits: np.ndarray | None = None) -> _Answer:
        return cls(
            np.zeros((n_filters, k), dtype=np.int64),
            np.zeros((n_filters, k), dtype=np.float32),
            np.ones(n_filters, dtype=bool),
            logits,
        )

    @classmethod
    def of(cls, said: Said, row: int, active: np.ndarray, n_filters: int, k: int) -> _Answer:
        """One image's part of a run, spread over the filters of which some were left out."""
        logits = None if said.logits is None else said.logits[row]
        n = active.size
        if n == n_filters:
            return cls(said.ids[row, :n], said.scores[row, :n], said.inactive[row, :n], logits)
        answer = cls.empty(n_filters, k, logits)
        answer.ids[active], answer.scores[active] = said.ids[row, :n], said.scores[row, :n]
        answer.inactive[active] = said.inactive[row, :n]
        return answer


def _activation(seen: Seen, layer: LayerEntry) -> np.ndarray:
    """(B, C): max over space, or mean where the layer saturates."""
    return (seen.peak if layer.ceiling is None else seen.mean)[layer.name]


def _heatmaps(feature_map: Any, filters: np.ndarray) -> np.ndarray:  # noqa: ANN401 - see Seen.maps
    """(F, H, W) uint8 of one image's map (1, C, H, W): 255 at the maximum, 0 where not active."""
    positive = np.maximum(on_host(feature_map)[0, filters], 0.0)
    top = positive.max(axis=(1, 2), keepdims=True)
    return np.asarray((positive * (255 / np.maximum(top, 1e-12))).round().astype(np.uint8))
