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
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lavise.bundle import Bundle, open_bundle
from lavise.catalog_table import CatalogTable, read_catalog
from lavise.errors import EnvironmentProblem, ImageError, RequestError
from lavise.explanation import Explanation
from lavise.graph_terms import FACTORISE_FROM, group_shape
from lavise.masking import mask_images
from lavise.options import DEFAULT_OPTIONS, ExplainOptions, check_options
from lavise.runtime import Device, open_session, resolve_device, run_graph

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lavise.manifest import LayerEntry

DEFAULT_MOST_ACTIVE: Final = 10
MAX_PROFILE_WORDS: Final = 20_000
_MAX_SCORES: Final = 1 << 26
"""Scores (filters x words) computed at once; 256 MiB."""
_ANSWER: Final = ("word_ids", "scores", "inactive")
_NO_LOGITS: Final = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True)
class _Layer:
    """One tapped layer: its outputs of cnn.onnx by position, and its catalog."""

    entry: LayerEntry
    position: int
    catalog: CatalogTable | None


class Explainer:
    """Explains filters with a bundle.

    Args:
        bundle: From open_bundle.
        device: Where the graphs run; ``auto`` takes CUDA where it is offered.
        device_id: Which GPU.
        threads: CPU threads; all cores when None.

    Attributes:
        seconds: Spent since it was opened in each kind of graph: ``cnn``, ``words``, ``profile``.

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
        self.device = resolve_device(device)
        self._device_id = device_id
        open_on = partial(open_session, device_id=device_id, threads=threads)
        self._cnn = open_on(bundle.path / "cnn.onnx", device=self.device)
        self.providers: list[str] = self._cnn.get_providers()
        if self.device == "cuda" and "CUDAExecutionProvider" not in self.providers:
            # ONNX Runtime falls back by itself where its CUDA build finds no usable GPU.
            if device == "cuda":
                raise EnvironmentProblem(
                    "device 'cuda' was asked for, but ONNX Runtime found no usable GPU: check the "
                    "driver with nvidia-smi, or use device 'cpu'",
                    field="device",
                )
            self.device = "cpu"
        self._open = partial(open_on, device=self.device)
        self._has_head = self._cnn.get_outputs()[0].name == "logits"
        self._groups = group_shape(len(self.vocabulary))[0]
        self._layers = {
            entry.name: _Layer(entry, position, read_catalog(bundle, entry.name))
            for position, entry in enumerate(bundle.manifest.cnn.layers)
        }
        self._entries = {name: layer.entry for name, layer in self._layers.items()}
        self._described = {n for n, layer in self._layers.items() if layer.catalog is not None}
        self.seconds = dict.fromkeys(("cnn", "words", "profile"), 0.0)
        self._sessions: dict[tuple[str, ...], Any] = {}
        for name in self._layers:
            self._session(name, "attention")

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
        passed = self._pass(batch, {o.layer or self.layers[0] for o in asked})
        for i, one in enumerate(asked):
            self._check_finite(passed, i, one)
        chosen = [self._choose(passed, i, one) for i, one in enumerate(asked)]
        answers = self._words(passed, asked, chosen, batch)
        return [
            self._explanation(passed, i, one, filters, answer)
            for i, (one, filters, answer) in enumerate(zip(asked, chosen, answers, strict=True))
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
        passed = self._pass(np.stack(images), {target.entry.name})
        feature_map = passed.map(target, range(len(images)))
        session = self._graph("profile", target.entry.name, "onnx")
        inputs = {"feature_map": feature_map}
        with self._timed("profile"):
            [word_scores] = run_graph(session, inputs, ["word_scores"], device=self.device)
        qualified = None
        if target.catalog is not None:
            every = np.arange(target.entry.channels)
            peak = passed.host[f"peak_{target.position}"]
            qualified = target.catalog.qualified(every, peak, target.entry.ceiling)
        return ImageNumbers(
            activation=passed.activation(target),
            qualified=qualified,
            word_scores=word_scores,
            finite=np.isfinite(passed.host[f"mean_{target.position}"]).all(axis=1),
        )

    def _check_image(self, image: np.ndarray) -> None:
        side = self.input_size
        if image.shape != (side, side, 3) or image.dtype != np.uint8:
            raise ImageError(
                f"an image is {image.dtype} {image.shape}; accepted: uint8 ({side}, {side}, 3), "
                "as lavise.images.prepare makes it",
                field="images",
            )

    def _check_finite(self, passed: _Pass, i: int, options: ExplainOptions) -> None:
        """Words of a feature map with NaN in it would be as good as drawn by lot."""
        layer = self._layers[options.layer or self.layers[0]]
        seen = [passed.host[f"mean_{layer.position}"][i]]
        if self._has_head:
            seen.append(passed.host["logits"][i])
        # A sum is finite where its terms are, and one call: a request has few milliseconds.
        if not all(math.isfinite(values.sum()) for values in seen):
            raise ImageError(
                f"the CNN gives values that are not finite for image {i} on layer "
                f"{layer.entry.name!r}: its weights are damaged, or overflow on this image",
                field="images",
            )

    def _pass(self, batch: np.ndarray, layers: set[str]) -> _Pass:
        """Runs the CNN once: feature maps stay on the device, the small rest comes to the host."""
        positions = [self._layers[name].position for name in layers]
        maps = [f"map_{i}" for i in positions]
        names = [*maps, *(f"{kind}_{i}" for i in positions for kind in ("peak", "mean"))]
        if self._has_head:
            names.append("logits")
        with self._timed("cnn"):
            values = run_graph(
                self._cnn,
                {"images": batch},
                names,
                device=self.device,
                device_id=self._device_id,
                kept=maps,
            )
        n = len(maps)
        return _Pass(
            dict(zip(maps, values[:n], strict=True)), dict(zip(names[n:], values[n:], strict=True))
        )

    def _choose(self, passed: _Pass, i: int, options: ExplainOptions) -> np.ndarray:
        """The filters to explain on one image, (F,) int64."""
        layer = self._layers[options.layer or self.layers[0]]
        if options.filters is not None:
            return np.array(options.filters, dtype=np.int64)
        if options.all_filters:
            return np.arange(layer.entry.channels)
        activation = passed.activation(layer)[i]
        n = options.most_active or min(DEFAULT_MOST_ACTIVE, layer.entry.channels)
        if n < activation.size:
            best = np.argpartition(-activation, n)[:n]
            return np.asarray(best[np.argsort(-activation[best], kind="stable")])
        return np.argsort(-activation, kind="stable")

    def _words(
        self,
        passed: _Pass,
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
                peak = passed.host[f"peak_{self._layers[name].position}"][i]
                rows = np.flatnonzero(peak[filters] > 0)
            active.append(rows)
            alike[name, one.method, rows.size >= FACTORISE_FROM].append(i)
        answers: dict[int, _Answer] = {}
        for (name, method, _), members in alike.items():
            k = max(asked[i].top_k for i in members)
            if method == "image":
                for i in members:
                    answers[i] = self._image_method(passed, name, i, chosen[i], k, batch[i])
                continue
            wide = max(active[i].size for i in members)
            padded = np.zeros((len(members), wide), dtype=np.int64)
            for row, i in enumerate(members):
                padded[row, : active[i].size] = chosen[i][active[i]]
            ids, scores, inactive = self._run(
                name, method, passed.map(self._layers[name], members), padded, k
            )
            for row, i in enumerate(members):
                rows, n = active[i], active[i].size
                if n == chosen[i].size:
                    answers[i] = _Answer(ids[row, :n], scores[row, :n], inactive[row, :n])
                    continue
                answer = _Answer.empty(chosen[i].size, k)
                answer.ids[rows], answer.scores[rows] = ids[row, :n], scores[row, :n]
                answer.inactive[rows] = inactive[row, :n]
                answers[i] = answer
        return [answers[i] for i in range(len(asked))]

    def _run(
        self,
        layer: str,
        method: str,
        feature_map: Any,  # noqa: ANN401 - what run_graph keeps
        filters: np.ndarray,
        k: int,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Runs one words graph, some filters at a time where their scores would not fit.

        Returns:
            word_ids (B, F, k), scores (B, F, k), inactive (B, F).
        """
        n_images, n_filters = filters.shape
        step = max(1, _MAX_SCORES // (len(self.vocabulary) * n_images))
        if n_filters == 0:
            empty = np.zeros((n_images, 0, k))
            return empty.astype(np.int64), empty.astype(np.float32), empty[:, :, 0] == 1
        session = self._session(layer, method)
        inputs = {
            "feature_map": feature_map,
            "k": np.array([k]),
            "k_groups": np.array([min(k, self._groups)]),
        }
        parts = []
        for start in range(0, n_filters, step):
            inputs["filters"] = filters[:, start : start + step]
            if method == "activation":
                catalog = self._layers[layer].catalog
                assert catalog is not None  # noqa: S101 - validate() saw to it
                ceiling = self._layers[layer].entry.ceiling
                inputs["threshold"] = catalog.cut(inputs["filters"], ceiling)
            with self._timed("words"):
                parts.append(run_graph(session, inputs, _ANSWER, device=self.device))
        if len(parts) == 1:
            ids, scores, inactive = parts[0]
        else:
            ids, scores, inactive = (np.concatenate(p, axis=1) for p in zip(*parts, strict=True))
        return ids, scores, inactive

    def _image_method(
        self, passed: _Pass, layer: str, i: int, filters: np.ndarray, k: int, image: np.ndarray
    ) -> _Answer:
        """Explains each filter by the image masked to where it exceeds T_f: one CNN pass each."""
        catalog = self._layers[layer].catalog
        assert catalog is not None  # noqa: S101 - validate() saw to it
        maps = _on_host(passed.map(self._layers[layer], [i]))[0, filters]  # (F, H, W)
        cut = catalog.cut(filters, self._layers[layer].entry.ceiling)
        masked, kept = mask_images(image, maps, cut)
        answer = _Answer.empty(filters.size, k)
        for start in range(0, kept.size, 16):
            rows = kept[start : start + 16]
            again = self._pass(masked(rows), {layer})
            ids, scores, _ = self._run(
                layer,
                "original",
                again.map(self._layers[layer], range(rows.size)),
                filters[rows][:, None],
                k,
            )
            answer.ids[rows], answer.scores[rows] = ids[:, 0], scores[:, 0]
            answer.inactive[rows] = False
        return answer

    @contextmanager
    def _timed(self, graph: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[graph] += time.perf_counter() - start

    def _session(self, layer: str, method: str) -> Any:  # noqa: ANN401 - onnxruntime has no types
        """The words graph of a layer and method."""
        return self._graph("words", layer, f"{method}.onnx")

    def _graph(self, *name: str) -> Any:  # noqa: ANN401 - onnxruntime has no types
        """A graph of the bundle, loaded when first asked for."""
        if name not in self._sessions:
            self._sessions[name] = self._open(self.bundle.file(*name))
        return self._sessions[name]

    def _explanation(
        self,
        passed: _Pass,
        i: int,
        options: ExplainOptions,
        filters: np.ndarray,
        answer: _Answer,
    ) -> Explanation:
        layer = self._layers[options.layer or self.layers[0]]
        threshold = qualified = None
        if layer.catalog is not None:
            threshold = layer.catalog.threshold[filters]
            peak = passed.host[f"peak_{layer.position}"][i, filters]
            qualified = layer.catalog.qualified(filters, peak, layer.entry.ceiling)
        return Explanation(
            layer=layer.entry.name,
            filters=filters,
            activation=passed.activation(layer)[i, filters],
            threshold=threshold,
            qualified=qualified,
            inactive=answer.inactive,
            word_ids=answer.ids[:, : options.top_k],
            scores=answer.scores[:, : options.top_k],
            logits=passed.host["logits"][i] if self._has_head else _NO_LOGITS,
            explainer=self,
            heatmaps=_heatmaps(passed.map(layer, [i]), filters) if options.heatmaps else None,
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
    """Words of one image's filters: (F, k) ids and scores, (F,) inactive."""

    ids: np.ndarray
    scores: np.ndarray
    inactive: np.ndarray

    @classmethod
    def empty(cls, n_filters: int, k: int) -> _Answer:
        return cls(
            np.zeros((n_filters, k), dtype=np.int64),
            np.zeros((n_filters, k), dtype=np.float32),
            np.ones(n_filters, dtype=bool),
        )


@dataclass(frozen=True)
class _Pass:
    """One run of cnn.onnx: maps as run_graph keeps them, by name; the rest as host arrays."""

    maps: dict[str, Any]
    host: dict[str, np.ndarray]

    def map(self, layer: _Layer, members: Sequence[int]) -> Any:  # noqa: ANN401 - see maps
        """The feature map (B, C, H, W) of some images of the batch, for run_graph."""
        value = self.maps[f"map_{layer.position}"]
        if len(members) == len(self.host[f"mean_{layer.position}"]):
            return value
        return _on_host(value)[list(members)]

    def activation(self, layer: _Layer) -> np.ndarray:
        """(B, C): max over space, or mean where the layer saturates."""
        kind = "peak" if layer.entry.ceiling is None else "mean"
        return self.host[f"{kind}_{layer.position}"]


def _heatmaps(feature_map: Any, filters: np.ndarray) -> np.ndarray:  # noqa: ANN401 - see _Pass.maps
    """(F, H, W) uint8 of one image's map (1, C, H, W): 255 at the maximum, 0 where not active."""
    positive = np.maximum(_on_host(feature_map)[0, filters], 0.0)
    top = positive.max(axis=(1, 2), keepdims=True)
    return np.asarray((positive * (255 / np.maximum(top, 1e-12))).round().astype(np.uint8))


def _on_host(value: Any) -> np.ndarray:  # noqa: ANN401 - what run_graph keeps
    return value if isinstance(value, np.ndarray) else np.asarray(value.numpy())
