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
    from collections.abc import Callable, Sequence

    from lavise.bundle import Bundle

OPEN: Final = -1
"""At the j-th place it stands for the j-th most active filter, whatever else is named."""
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
        maps: (B, F, N) feature maps, zero where a filter was left out; None unless asked for.
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
            layer.name: layer.ceiling is not None for layer in bundle.manifest.cnn.layers
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
        run = partial(self._run, layer, method, k=k, thresholds=thresholds, maps=maps)
        at_once = max(1, _MAX_SCORES // self._n_words)
        if filters.size <= at_once:
            return run(images, filters)
        step, some = max(1, at_once // filters.shape[1]), run
        if filters.shape[1] > at_once:
            some = partial(self._in_parts, layer, method, at_once=at_once, run=run)
        starts = range(0, len(images), step)
        parts = [some(images[at : at + step], filters[at : at + step]) for at in starts]
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

    def _run(
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
        logits = told.get("logits")
        inactive = told["weight"][:, :, 0] == 0
        n = inactive.shape[1]  # there may be a row of the whole image behind those of the filters
        said = Said(
            filters=told["chosen"],
            ids=told["word_ids"][:, :n],
            scores=told["word_best"][:, :n],
            inactive=inactive,
            peak=told["peak"],
            mean=told["mean"],
            logits=None if logits is None else logits.reshape(len(images), -1),
            maps=told.get("A_f"),
        )
        return _among(said, told["places"], said.filters) if "places" in told else said

    def _in_parts(
        self,
        layer: str,
        method: str,
        image: np.ndarray,
        filters: np.ndarray,
        *,
        at_once: int,
        run: Callable[[np.ndarray, np.ndarray], Said],
    ) -> Said:
        """What is said of one image's filters (1, F), some at a time.

        The first run says which filters are meant, and which can be left out as the graph does.
        """
        first = run(image, filters[:, :1])
        activation = first.mean if self._by_mean[layer] else first.peak
        best = np.argsort(-activation, axis=1, kind="stable")[:, : filters.size]
        filters = np.where(filters == OPEN, best, filters)
        places = np.arange(filters.size)
        if method == "attention":
            places = np.flatnonzero(first.peak[0, filters[0]] > 0)
            if places.size == 0:
                places = np.arange(1)
        runs = [
            run(image, filters[:, places[start : start + at_once]])
            for start in range(0, places.size, at_once)
        ]
        return _among(_together(runs, axis=1), places[None], filters)

    def _session(self, kind: str, layer: str, suffix: str) -> Any:  # noqa: ANN401 - see open_session
        """A graph of the bundle, loaded when first asked for."""
        key = (kind, layer, suffix)
        if key not in self._sessions:
            session = self._open(self._bundle.file(kind, layer, suffix))
            self._outputs[key] = [one.name for one in session.get_outputs()]
            self._sessions[key] = session
        return self._sessions[key]


def _among(said: Said, places: np.ndarray, filters: np.ndarray) -> Said:
    """What was said of filters at some (B, G) places, among all (B, F): the others are inactive."""

    def spread(values: np.ndarray, rest: int) -> np.ndarray:
        out = np.full((*filters.shape, *values.shape[2:]), rest, dtype=values.dtype)
        out[np.arange(len(values))[:, None], places] = values
        return out

    return replace(
        said,
        filters=filters,
        ids=spread(said.ids, 0),
        scores=spread(said.scores, 0),
        inactive=spread(said.inactive, 1),
        maps=None if said.maps is None else spread(said.maps, 0),
    )


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
