"""What a bundle says on an image by each method, from a feature map that is already there.

lavise.explainer explains images: each method would run the CNN again. Here one pass of the CNN
serves all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from lavise.graphs import Graphs, Seen
from lavise.masking import mask_images

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
        self._graphs = Graphs(bundle, device=device)
        self._layers = [layer.name for layer in bundle.manifest.cnn.layers]
        self._k = min(top_k, bundle.manifest.vocabulary.size)

    def look(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Runs the CNN.

        Args:
            images: (B, S, S, 3) uint8.

        Returns:
            ``map_i`` (B, C, H, W), ``peak_i`` and ``mean_i`` (B, C) for the i-th layer.
        """
        seen = self._graphs.see(images, self._layers)
        kinds = {"map": seen.maps, "peak": seen.peak, "mean": seen.mean}
        return {
            f"{kind}_{i}": values[layer]
            for i, layer in enumerate(self._layers)
            for kind, values in kinds.items()
        }

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
        seen = Seen({layer.name: feature_map}, {}, {layer.name: feature_map.mean((2, 3))}, None)
        threshold = cut[filters] if method == "activation" else None
        members = range(len(filters))
        said = self._graphs.say(layer.name, method, seen, members, filters, self._k, threshold)
        return np.where(said.inactive[:, :, None], -1, said.ids)

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
        ids = np.full((filters.size, self._k), -1)
        if kept.size:
            again = self.look(masked(kept))[f"map_{position}"]
            ids[kept] = self.say(layer, "original", again, filters[kept][:, None], cut)[:, 0]
        return ids
