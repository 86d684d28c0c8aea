"""The graphs of a bundle on a device: images to feature maps, feature maps to words.

The CNN runs once a batch, its feature maps stay on the device, and where the mapper holds the CNN's
classifier, logits come out of the words graph: the classifier's weights are read once.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lavise.errors import EnvironmentProblem
from lavise.graph_terms import FACTORISE_FROM, group_shape
from lavise.runtime import Device, open_session, resolve_device, run_graph

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from lavise.bundle import Bundle

_MAX_SCORES: Final = 1 << 26
"""Scores (filters x words) computed at once; 256 MiB."""


@dataclass(frozen=True)
class Seen:
    """One run of the CNN. B images, C filters, K classes.

    Attributes:
        maps: By layer, (B, C, H, W) as run_graph keeps them.
        peak: By layer, (B, C) max over space.
        mean: By layer, (B, C) mean over space.
        logits: (B, K); None where the CNN has no classifier, or it runs apart.
    """

    maps: dict[str, Any]
    peak: dict[str, np.ndarray]
    mean: dict[str, np.ndarray]
    logits: np.ndarray | None

    def map(self, layer: str, members: Sequence[int]) -> Any:  # noqa: ANN401 - see maps
        """The feature map of some images, for run_graph."""
        value = self.maps[layer]
        if len(members) == len(self.mean[layer]):
            return value
        return on_host(value)[list(members)]


@dataclass(frozen=True)
class Said:
    """One run of a words graph. B images, F filters, K classes.

    Attributes:
        ids: (B, F, k) positions in the vocabulary, best first.
        scores: (B, F, k), see lavise.word_scores.
        inactive: (B, F) whether there is nothing to attend to.
        logits: (B, K) of the CNN's classifier; None where the graph does not hold it.
    """

    ids: np.ndarray
    scores: np.ndarray
    inactive: np.ndarray
    logits: np.ndarray | None = None


@dataclass(frozen=True)
class _WordsGraph:
    session: Any
    takes_mean: bool
    outputs: tuple[str, ...]


class Graphs:
    """Runs the graphs of a bundle.

    Args:
        bundle: From open_bundle.
        device: Where the graphs run; ``auto`` takes CUDA where it is offered.
        device_id: Which GPU.
        threads: CPU threads; all cores when None.

    Attributes:
        device: Where they run.
        providers: Of ONNX Runtime, for the CNN.
        has_head: Whether the CNN has a classifier.
        seconds: Spent so far in each kind of graph: ``cnn``, ``words``, ``profile``.

    Raises:
        BundleError: A graph cannot be loaded.
        EnvironmentProblem: The device or ONNX Runtime is missing.
    """

    def __init__(
        self, bundle: Bundle, *, device: Device, device_id: int = 0, threads: int | None = None
    ) -> None:
        self._bundle = bundle
        self._device_id = device_id
        self.device = resolve_device(device)
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
        self._positions = {layer.name: i for i, layer in enumerate(bundle.manifest.cnn.layers)}
        self._in_cnn = self._cnn.get_outputs()[0].name == "logits"
        self._head_layer = bundle.manifest.head_layer
        self.has_head = self._in_cnn or self._head_layer is not None
        self._n_words = bundle.manifest.vocabulary.size
        self._groups = group_shape(self._n_words)[0]
        self._sessions: dict[str, Any] = {}
        self._words: dict[tuple[str, str, bool], _WordsGraph] = {}
        self.seconds = dict.fromkeys(("cnn", "words", "profile"), 0.0)

    def see(self, images: np.ndarray, layers: Collection[str]) -> Seen:
        """Runs the CNN.

        Args:
            images: (B, S, S, 3) uint8.
            layers: Whose feature maps are wanted.

        Returns:
            What it gives; ``mean`` also of the layer that feeds the classifier.
        """
        means = list(layers)
        if self._head_layer is not None and self._head_layer not in layers:
            means.append(self._head_layer)
        at = self._positions
        names = [f"map_{at[layer]}" for layer in layers]
        outputs = [*names, *(f"peak_{at[layer]}" for layer in layers)]
        outputs += [f"mean_{at[layer]}" for layer in means]
        if self._in_cnn:
            outputs.append("logits")
        with self._timed("cnn"):
            values = run_graph(
                self._cnn,
                {"images": images},
                outputs,
                device=self.device,
                device_id=self._device_id,
                kept=names,
            )
        n = len(names)
        return Seen(
            dict(zip(layers, values, strict=False)),
            dict(zip(layers, values[n:], strict=False)),
            dict(zip(means, values[2 * n :], strict=False)),
            values[-1] if self._in_cnn else None,
        )

    def say(
        self,
        layer: str,
        method: str,
        seen: Seen,
        members: Sequence[int],
        filters: np.ndarray,
        k: int,
        threshold: np.ndarray | None = None,
    ) -> Said:
        """Maps filters to words, some at a time where their scores would not fit.

        Args:
            layer: The target layer, one that was seen.
            method: One of lavise.graph_terms.GRAPH_METHODS.
            seen: From see().
            members: Which of its images.
            filters: (B, F) indices, F at least 1.
            k: Words a filter.
            threshold: (B, F) for ``activation``: what counts as active when exceeded.

        Returns:
            Their words.
        """
        n_images, n_filters = filters.shape
        graph = self._words_graph(layer, method, many=n_filters >= FACTORISE_FROM)
        inputs = {
            "feature_map": seen.map(layer, members),
            "k": np.array([k]),
            "k_groups": np.array([min(k, self._groups)]),
        }
        if graph.takes_mean:
            inputs["mean"] = seen.mean[layer][list(members), None]
        step = max(1, _MAX_SCORES // (self._n_words * n_images))
        parts = []
        for start in range(0, n_filters, step):
            some = slice(start, start + step)
            inputs["filters"] = filters[:, some]
            if threshold is not None:
                inputs["threshold"] = threshold[:, some]
            with self._timed("words"):
                parts.append(run_graph(graph.session, inputs, graph.outputs, device=self.device))
        ids, scores, weight, *logits = parts[0]
        if len(parts) > 1:
            ids, scores, weight = (
                np.concatenate([part[i] for part in parts], axis=1) for i in range(3)
            )
        return Said(ids, scores, weight[:, :, 0] == 0, logits[0][:, 0] if logits else None)

    def logits(self, seen: Seen, members: Sequence[int]) -> np.ndarray:
        """What the CNN's classifier says of some images.

        Args:
            seen: From see(); the CNN has a classifier.
            members: Which of its images.

        Returns:
            (B, K).
        """
        if seen.logits is not None:
            return np.asarray(seen.logits[list(members)])
        assert self._head_layer is not None  # noqa: S101 - the caller looked at has_head
        mean = seen.mean[self._head_layer][list(members)]
        session = self._session("head.onnx")
        [found] = run_graph(session, {"mean": mean}, ["logits"], device=self.device)
        return np.asarray(found)

    def score_words(self, layer: str, seen: Seen) -> np.ndarray:
        """Scores every word on every image, as lavise.profile_graph does.

        Args:
            layer: The target layer, one that was seen.
            seen: From see().

        Returns:
            (B, V) float32.
        """
        session = self._session(self._bundle.file("profile", layer, "onnx").name)
        inputs = {"feature_map": seen.maps[layer]}
        with self._timed("profile"):
            [found] = run_graph(session, inputs, ["word_scores"], device=self.device)
        return np.asarray(found)

    def warm_up(self) -> None:
        """Loads what most requests need, so that the first one need not wait for it."""
        for layer in self._positions:
            self._words_graph(layer, "attention", many=False)

    def _words_graph(self, layer: str, method: str, *, many: bool) -> _WordsGraph:
        key = (layer, method, many)
        if key not in self._words:
            suffix = f"{method}.many.onnx" if many else f"{method}.onnx"
            session = self._session(self._bundle.file("words", layer, suffix).name)
            self._words[key] = _WordsGraph(
                session,
                "mean" in {one.name for one in session.get_inputs()},
                tuple(one.name for one in session.get_outputs()),
            )
        return self._words[key]

    def _session(self, file: str) -> Any:  # noqa: ANN401 - onnxruntime has no types
        """A graph of the bundle, loaded when first asked for."""
        if file not in self._sessions:
            self._sessions[file] = self._open(self._bundle.path / file)
        return self._sessions[file]

    @contextmanager
    def _timed(self, graph: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[graph] += time.perf_counter() - start


def on_host(value: Any) -> np.ndarray:  # noqa: ANN401 - what run_graph keeps
    """A value that run_graph kept, as an array."""
    return value if isinstance(value, np.ndarray) else np.asarray(value.numpy())
