"""The graphs of a bundle on a device: images to words, in one run for all images of a batch."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from lavise.errors import EnvironmentProblem
from lavise.graph_terms import FACTORISE_FROM, group_shape
from lavise.runtime import Device, open_session, resolve_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lavise.bundle import Bundle

OPEN: Final = -1
"""Stands for the most active filter that is not named yet."""
_MAX_SCORES: Final = 1 << 26
"""Scores (filters x words) computed at once; 256 MiB."""


@dataclass(frozen=True)
class Said:
    """What a bundle says of images. B images, F filters, C channels, K classes.

    Attributes:
        filters: (B, F) indices.
        ids: (B, F, k) positions in the vocabulary, best first.
        scores: (B, F, k), see lavise.word_scores.
        inactive: (B, F) whether there is nothing to attend to: ids and scores mean nothing.
        peak: (B, C) max over space.
        mean: (B, C) mean over space.
        logits: (B, K) of the CNN's classifier; None where it has none.
        maps: (B, F, N) feature maps, zero where a filter is inactive; None unless asked for.
    """

    filters: np.ndarray
    ids: np.ndarray
    scores: np.ndarray
    inactive: np.ndarray
    peak: np.ndarray
    mean: np.ndarray
    logits: np.ndarray | None
    maps: np.ndarray | None


@dataclass(frozen=True)
class Scored:
    """Every filter and every word on images. B images, C channels, V words.

    Attributes:
        word_scores: (B, V), see lavise.profile_graph.
        peak: (B, C) max over space.
        mean: (B, C) mean over space.
    """

    word_scores: np.ndarray
    peak: np.ndarray
    mean: np.ndarray


class Graphs:
    """Runs the graphs of a bundle.

    Args:
        bundle: From open_bundle.
        device: Where the graphs run; ``auto`` takes CUDA where it is offered.
        device_id: Which GPU.
        threads: CPU threads; all cores when None.

    Attributes:
        device: Where they run.
        providers: Of ONNX Runtime.
        seconds: Spent so far in each kind of graph: ``words``, ``profile``.

    Raises:
        BundleError: A graph cannot be loaded.
        EnvironmentProblem: The device or ONNX Runtime is missing.
    """

    def __init__(
        self, bundle: Bundle, *, device: Device, device_id: int = 0, threads: int | None = None
    ) -> None:
        self._bundle = bundle
        self.device = resolve_device(device)
        self._open = partial(open_session, device=self.device, device_id=device_id, threads=threads)
        self._n_words = bundle.manifest.vocabulary.size
        self._n_groups = group_shape(self._n_words)[0]
        self._by_mean = {
            layer.name: np.array([layer.ceiling is not None])
            for layer in bundle.manifest.cnn.layers
        }
        self._sessions: dict[tuple[str, ...], Any] = {}
        self._outputs: dict[tuple[str, ...], list[str]] = {}
        self.seconds = dict.fromkeys(("words", "profile"), 0.0)
        for name in self._by_mean:  # what most requests need: the first need not wait for it
            self._session("words", name, "attention.onnx")
        self.providers: list[str] = next(iter(self._sessions.values())).get_providers()
        if self.device == "cuda" and "CUDAExecutionProvider" not in self.providers:
            # ONNX Runtime falls back by itself where its CUDA build finds no usable GPU.
            if device == "cuda":
                raise EnvironmentProblem(
                    "device 'cuda' was asked for, but ONNX Runtime found no usable GPU: check the "
                    "driver with nvidia-smi, or use device 'cpu'",
                    field="device",
                )
            self.device = "cpu"

    def explain(
        self,
        layer: str,
        method: str,
        images: np.ndarray,
        filters: np.ndarray,
        k: int,
        *,
        thresholds: np.ndarray | None = None,
        maps: bool = False,
    ) -> Said:
        """Says what filters see on images, some at a time where their scores would not fit.

        Args:
            layer: The target layer.
            method: One of lavise.graph_terms.GRAPH_METHODS.
            images: (B, S, S, 3) uint8.
            filters: (B, F), F from 1 to C: indices, or OPEN.
            k: Words a filter.
            thresholds: (C,) for ``activation``: what counts as active when exceeded.
            maps: Whether the feature maps are wanted.

        Returns:
            What it says.
        """
        n_images, n_filters = filters.shape
        run = partial(self._explain, layer, method, k=k, thresholds=thresholds, maps=maps)
        if n_images * n_filters * self._n_words <= _MAX_SCORES:
            return run(images, filters)
        parts = []
        for i in range(n_images):
            image, row = images[i : i + 1], filters[i : i + 1]
            step = max(1, _MAX_SCORES // self._n_words)
            if n_filters > step and (row == OPEN).any():
                row = self._most_active(layer, method, image, row, thresholds)
            runs = [run(image, row[:, at : at + step]) for at in range(0, n_filters, step)]
            parts.append(_together(runs, axis=1))
        return _together(parts, axis=0)

    def profile(self, layer: str, images: np.ndarray) -> Scored:
        """Scores every filter and every word on images.

        Args:
            layer: The target layer.
            images: (B, S, S, 3) uint8.

        Returns:
            Their scores.
        """
        session = self._session("profile", layer, "onnx")
        start = time.perf_counter()
        found = Scored(*session.run(["word_scores", "peak", "mean"], {"images": images}))
        self.seconds["profile"] += time.perf_counter() - start
        return found

    def _explain(
        self,
        layer: str,
        method: str,
        images: np.ndarray,
        filters: np.ndarray,
        *,
        k: int,
        thresholds: np.ndarray | None,
        maps: bool,
    ) -> Said:
        many = filters.shape[1] >= FACTORISE_FROM
        key = ("words", layer, f"{method}.many.onnx" if many else f"{method}.onnx")
        session = self._session(*key)
        inputs = {
            "images": images,
            "filters": filters,
            "by_mean": self._by_mean[layer],
            "k": np.array([k]),
            "k_groups": np.array([min(k, self._n_groups)]),
        }
        if method == "activation" and thresholds is not None:
            inputs["thresholds"] = thresholds
        names = self._outputs[key]
        if not maps:
            names = [name for name in names if name != "A_f"]
        start = time.perf_counter()
        told = dict(zip(names, session.run(names, inputs), strict=True))
        self.seconds["words"] += time.perf_counter() - start
        ids, scores, maps_f = told["word_ids"], told["scores"], told.get("A_f")
        inactive = told["weight"][:, :, 0] == 0
        if "places" in told:  # of the filters that are active somewhere
            spread = partial(_spread, places=told["places"], n_filters=filters.shape[1])
            ids, scores, inactive = spread(ids), spread(scores), ~spread(~inactive)
            maps_f = None if maps_f is None else spread(maps_f)
        logits = told.get("logits")
        return Said(
            filters=told["chosen"],
            ids=ids,
            scores=scores,
            inactive=inactive,
            peak=told["peak"],
            mean=told["mean"],
            logits=None if logits is None else logits.reshape(len(images), -1),
            maps=maps_f,
        )

    def _most_active(
        self,
        layer: str,
        method: str,
        image: np.ndarray,
        filters: np.ndarray,
        thresholds: np.ndarray | None,
    ) -> np.ndarray:
        """Names the open filters of one image, (1, F), at the cost of a run."""
        said = self._explain(
            layer, method, image, filters[:, :1], k=1, thresholds=thresholds, maps=False
        )
        activation = said.mean if self._by_mean[layer][0] else said.peak
        best = np.argsort(-activation, axis=1, kind="stable")[:, : filters.shape[1]]
        return np.where(filters == OPEN, best, filters)

    def _session(self, kind: str, layer: str, suffix: str) -> Any:  # noqa: ANN401 - has no types
        """A graph of the bundle, loaded when first asked for."""
        key = (kind, layer, suffix)
        if key not in self._sessions:
            session = self._open(self._bundle.file(kind, layer, suffix))
            self._outputs[key] = [one.name for one in session.get_outputs()]
            self._sessions[key] = session
        return self._sessions[key]


def _spread(values: np.ndarray, *, places: np.ndarray, n_filters: int) -> np.ndarray:
    """(B, G, ...) values at their (B, G) places among the filters, (B, F, ...); else zero."""
    out = np.zeros((len(values), n_filters, *values.shape[2:]), dtype=values.dtype)
    out[np.arange(len(values))[:, None], places] = values
    return out


_OF_FILTERS: Final = ("filters", "ids", "scores", "inactive", "maps")


def _together(parts: Sequence[Said], *, axis: Literal[0, 1]) -> Said:
    """Parts that are of some images each (axis 0), or of some filters each (axis 1)."""
    names = _OF_FILTERS if axis else [field.name for field in fields(Said)]
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts], axis)
        for name in names
        if getattr(parts[0], name) is not None
    }
    return replace(parts[0], **joined)
