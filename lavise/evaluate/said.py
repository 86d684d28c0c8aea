"""What a bundle sees on images, and what it says of them by each method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from lavise.graphs import Graphs
from lavise.masking import mask_images
from lavise.runtime import open_session

if TYPE_CHECKING:
    from lavise.bundle import Bundle
    from lavise.manifest import LayerEntry
    from lavise.runtime import Device

MASKED_PAIRS: Final = 4
"""Filters an image that the method ``image`` is measured on, drawn by lot: each costs a pass of the
CNN, so that all of them would take a hundred times as long as everything else."""


class Speaker:
    """Runs a bundle's graphs: images to maps, images to words.

    Args:
        bundle: Opened.
        device: Where the graphs run.
        top_k: Words an answer; fewer where the vocabulary is smaller.
    """

    def __init__(self, bundle: Bundle, *, device: Device, top_k: int) -> None:
        self._graphs = Graphs(bundle, device=device)
        self._cnn = open_session(bundle.path / "cnn.onnx", device=device)
        self._names = [
            f"{kind}_{i}"
            for i in range(len(bundle.manifest.cnn.layers))
            for kind in ("map", "peak", "mean")
        ]
        self._k = min(top_k, bundle.manifest.vocabulary.size)

    def look(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Runs the CNN.

        Args:
            images: (B, S, S, 3) uint8.

        Returns:
            ``map_i`` (B, C, H, W), ``peak_i`` and ``mean_i`` (B, C) for the i-th layer.
        """
        found = self._cnn.run(self._names, {"images": images})
        return dict(zip(self._names, found, strict=True))

    def say(
        self,
        layer: LayerEntry,
        method: str,
        images: np.ndarray,
        filters: np.ndarray,
        cut: np.ndarray,
    ) -> np.ndarray:
        """Words of some filters on images, by a method that has a graph.

        Args:
            layer: The layer.
            method: One of lavise.graph_terms.GRAPH_METHODS.
            images: (B, S, S, 3) uint8.
            filters: (B, F) indices.
            cut: (C,) what counts as active when exceeded.

        Returns:
            (B, F, k) word ids, best first; -1 where a filter is inactive.
        """
        said = self._graphs.explain(layer.name, method, images, filters, self._k, thresholds=cut)
        return np.where(said.inactive[:, :, None], -1, said.ids)

    def say_masked(
        self,
        layer: LayerEntry,
        image: np.ndarray,
        maps: np.ndarray,
        filters: np.ndarray,
        cut: np.ndarray,
    ) -> np.ndarray:
        """Words of some filters by the image masked to where each is active, one pass each.

        Args:
            layer: The layer.
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
            some = filters[kept][:, None]
            ids[kept] = self.say(layer, "original", masked(kept), some, cut)[:, 0]
        return ids
