"""What a bundle says on an image by each method, from a feature map that is already there.

lavise.explainer explains images: each method would run the CNN again. Here one pass of the CNN
serves all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lavise.graph_terms import group_shape
from lavise.masking import mask_images
from lavise.runtime import open_session, resolve_device, run_graph

if TYPE_CHECKING:
    from lavise.bundle import Bundle
    from lavise.manifest import LayerEntry
    from lavise.runtime import Device

MASKED_PAIRS: Final = 4
"""Filters an image that the method ``image`` is measured on, drawn by lot: each costs a pass of the
CNN, so that all of them would take a hundred times as long as everything else."""


class Speaker:
    """Runs a bundle's graphs: images to maps, maps to words.

    Args:
        bundle: Opened.
        device: Where the graphs run.
        top_k: Words an answer; fewer where the vocabulary is smaller.
    """

    def __init__(self, bundle: Bundle, *, device: Device, top_k: int) -> None:
        self._bundle = bundle
        self._device = resolve_device(device)
        self._cnn = open_session(bundle.path / "cnn.onnx", device=device)
        self._sessions: dict[tuple[str, str], Any] = {}
        n_words = bundle.manifest.vocabulary.size
        k = min(top_k, n_words)
        self._cuts = {
            "k": np.array([k]),
            "k_groups": np.array([min(k, group_shape(n_words)[0])]),
        }

    def look(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Runs the CNN.

        Args:
            images: (B, S, S, 3) uint8.

        Returns:
            ``map_i`` (B, C, H, W), ``peak_i`` and ``mean_i`` (B, C) for the i-th layer.
        """
        layers = range(len(self._bundle.manifest.cnn.layers))
        names = [f"{kind}_{i}" for i in layers for kind in ("map", "peak", "mean")]
        values = run_graph(self._cnn, {"images": images}, names, device=self._device)
        return dict(zip(names, values, strict=True))

    def say(
        self,
        layer: LayerEntry,
        method: str,
        feature_map: np.ndarray,
        filters: np.ndarray,
        cut: np.ndarray,
    ) -> np.ndarray:
        """Words of some filters on images, by a method that has a graph.

        Args:
            layer: The layer.
            method: One of lavise.graph_terms.GRAPH_METHODS.
            feature_map: (B, C, H, W).
            filters: (B, F) indices.
            cut: (C,) what counts as active when exceeded.

        Returns:
            (B, F, k) word ids, best first; -1 where a filter is inactive.
        """
        key = (layer.name, method)
        if key not in self._sessions:
            file = self._bundle.file("words", layer.name, f"{method}.onnx")
            self._sessions[key] = open_session(file, device=self._device)
        inputs = {"feature_map": feature_map, "filters": filters, **self._cuts}
        if method == "activation":
            inputs["threshold"] = cut[filters]
        names = ["word_ids", "inactive"]
        ids, inactive = run_graph(self._sessions[key], inputs, names, device=self._device)
        return np.where(inactive[:, :, None], -1, ids)

    def say_masked(
        self,
        layer: LayerEntry,
        position: int,
        image: np.ndarray,
        maps: np.ndarray,
        filters: np.ndarray,
        cut: np.ndarray,
    ) -> np.ndarray:
        """Words of some filters by the image masked to where each is active, one pass each.

        Args:
            layer: The layer.
            position: Of the layer in the manifest.
            image: (S, S, 3) uint8.
            maps: (C, H, W) of the whole image.
            filters: (F,) indices.
            cut: (C,) what counts as active when exceeded.

        Returns:
            (F, k) word ids, best first; -1 where a filter is inactive.
        """
        masked, kept = mask_images(image, maps[filters], cut[filters])
        ids = np.full((filters.size, int(self._cuts["k"][0])), -1)
        if kept.size:
            again = self.look(masked(kept))[f"map_{position}"]
            ids[kept] = self.say(layer, "original", again, filters[kept][:, None], cut)[:, 0]
        return ids
