"""Describes every filter of a layer over a probe set, in one streaming pass.

Kept while streaming, none of it growing with the probe set: a histogram of every filter's cell
values (the thresholds T_f), the attended features of every filter's top images (its words), and
the feature maps of a random sample of images (the null model of the verdict).
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from threadpoolctl import threadpool_limits

from lavise import bundle as bundles
from lavise.attention import attention_rows
from lavise.catalog_table import CatalogTable, write_catalog
from lavise.errors import DatasetError, ImageError
from lavise.filter_words import describe
from lavise.half import to_half
from lavise.manifest import SKILL, CatalogEntry
from lavise.mapper import MapperWeights
from lavise.prefetch import batched, prefetch
from lavise.progress import Track, silent
from lavise.quantiles import RELATIVE_ERROR, CellHistogram
from lavise.runtime import Device, open_session
from lavise.tensors import read_tensors
from lavise.words import WordVectors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lavise.image_set import ImageSet
    from lavise.manifest import LayerEntry, MapperEntry

EXCEEDED: Final = 0.005
"""P(A_f > T_f) over the cells of the probe set (paper, section 3.3; NetDissect)."""
TOP_IMAGES: Final = 50
"""Images that a filter's words are voted by (docs/method.md)."""
NULL_IMAGES: Final = 256
_NULL_BYTES: Final = 64 << 20
_SHOWN_IMAGES: Final = 10
BATCH: Final = 16
_LEAST_SKILL: Final = 0.1
_HELD: Final = 512
_HELD_BYTES: Final = 128 << 20
"""Images, and bytes of their maps, held back before attended features are computed."""


class LayerStatistics:
    """Streaming statistics of one layer. C filters, N cells, p top images.

    Args:
        layer: The layer; where it saturates, images are ranked by mean instead of max.
        seed: Of the random sample for the null model.
    """

    def __init__(self, layer: LayerEntry, *, seed: int = 0) -> None:
        C = layer.channels
        self._by_mean = layer.ceiling is not None
        self._histogram = CellHistogram(C)
        self._rng = np.random.default_rng(seed)
        self.images = 0
        self.activation = np.full((C, TOP_IMAGES), -np.inf, dtype=np.float32)
        self.image = np.full((C, TOP_IMAGES), -1, dtype=np.int64)
        # Not zeros(): memory that is filled at once comes in huge pages, in a fifth of the time.
        self._attended = np.full((C, TOP_IMAGES, C), 0, dtype=np.float16)
        N = layer.height * layer.width
        self._held: list[np.ndarray] = []
        self._most_held = max(1, min(_HELD, _HELD_BYTES // (4 * C * N)))
        kept = max(2 * TOP_IMAGES, min(NULL_IMAGES, _NULL_BYTES // (4 * C * N)))
        self.sample = np.full((kept, C, N), 0, dtype=np.float32)

    def update(self, maps: np.ndarray) -> None:
        """Takes in a batch.

        Args:
            maps: (B, C, H, W) feature maps, finite; held on to, and not to be changed.
        """
        n = len(maps)
        cells = maps.reshape(n, maps.shape[1], -1)
        if len(self._held) + n > self._most_held:
            self._attend()
        self._histogram.update(cells)
        self._rank(cells)
        self._held += list(cells)
        for i in range(n):  # reservoir sampling: every image is kept with the same chance
            seen = self.images + i
            slot = seen if seen < len(self.sample) else int(self._rng.integers(seen + 1))
            if slot < len(self.sample):
                self.sample[slot] = cells[i]
        self.images += n

    def _rank(self, cells: np.ndarray) -> None:
        """Puts the batch's images among each filter's top images where they belong."""
        activation = (cells.mean(axis=2) if self._by_mean else cells.max(axis=2)).T  # (C, B)
        worst = self.activation.min(axis=1)
        candidates = np.flatnonzero(activation.max(axis=1) > np.maximum(worst, 0.0))
        if candidates.size == 0:
            return
        both = np.concatenate([self.activation[candidates], activation[candidates]], axis=1)
        order = np.argpartition(-both, TOP_IMAGES - 1, axis=1)[:, :TOP_IMAGES]  # (c, p)
        arriving = order >= TOP_IMAGES
        kept = np.zeros((candidates.size, TOP_IMAGES), dtype=bool)
        row, column = np.nonzero(~arriving)
        kept[row, order[row, column]] = True
        # Those that leave make room, in place, for those that arrive: nothing else moves.
        leaves_column = np.nonzero(~kept)[1]
        comes_row, comes_column = np.nonzero(arriving)
        which = order[comes_row, comes_column] - TOP_IMAGES  # image in the batch
        filters = candidates[comes_row]
        some = activation[filters, which] > 0
        place = (filters[some], leaves_column[some])
        self.activation[place] = activation[filters[some], which[some]]
        self.image[place] = self.images + which[some]

    def _attend(self) -> None:
        """Computes the attended features that the images held back are still wanted for.

        By then most of the places that an image took at first are lost to better ones.
        """
        first = self.images - len(self._held)
        filters, places = np.nonzero(self.image >= first)
        which = self.image[filters, places] - first
        by_image = np.argsort(which, kind="stable")
        ends = np.searchsorted(which[by_image], np.arange(len(self._held) + 1))
        # These products are too small for threads, which would take the cores from decoding.
        with threadpool_limits(1, "blas"):
            for i, cells in enumerate(self._held):
                some = by_image[ends[i] : ends[i + 1]]
                if some.size:
                    self._attended[filters[some], places[some]] = _attended(cells, filters[some])
        self._held.clear()

    @property
    def attended(self) -> np.ndarray:
        """(C, p, C) float16: the attended feature of every filter on its top images."""
        if self._held:
            self._attend()
        return self._attended

    def thresholds(self) -> np.ndarray:
        """T_f for every filter, (C,) float32."""
        return self._histogram.quantile(1.0 - EXCEEDED)


def _attended(cells: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """The attended features of some filters on one image.

    Args:
        cells: (C, N), its feature map.
        filters: (F,) indices.

    Returns:
        (F, C) float16.
    """
    # Behind a ReLU most channels are zero on an image: they need neither product nor rounding.
    live = np.flatnonzero(cells.any(axis=1))
    features = attention_rows(cells[filters]) @ cells[live].T  # (F, live)
    attended = np.zeros((filters.size, len(cells)), dtype=np.float16)
    attended[:, live] = to_half(features)
    return attended


def make_catalog(
    bundle: bundles.Bundle,
    probe: ImageSet,
    *,
    device: Device = "auto",
    track: Track = silent,
    say: Callable[[str], None] = lambda _: None,
) -> bundles.Bundle:
    """Describes every filter of every layer of a bundle and puts the catalog into it.

    Args:
        bundle: Opened; it is replaced by one with the catalog when all went well.
        probe: The images.
        device: Where the CNN runs.
        track: Shows progress.
        say: Told of images that could not be read; they are left out.

    Returns:
        The new bundle.

    Raises:
        DatasetError: No image could be read.
        EnvironmentProblem: The disk is full.
    """
    cnn = bundle.manifest.cnn
    statistics = [LayerStatistics(layer) for layer in cnn.layers]
    session = open_session(bundle.path / "cnn.onnx", device=device)
    sources = stream(session, probe, statistics, track=track, say=say)
    if not sources:
        raise DatasetError(f"probe set {probe.name!r} has no readable image", field="images")
    with bundles.writing(bundle.path) as folder:
        for name in bundle.manifest.files:
            shutil.copy2(bundle.path / name, folder / name)
        entries = []
        for layer, found, mapper in zip(
            cnn.layers, statistics, bundle.manifest.mappers, strict=True
        ):
            if not _is_skilled(mapper):
                say(
                    f"layer {layer.name}: on images held out from teaching the mapper is hardly "
                    "better than an answer that is always the same, so no filter is called "
                    "described; teach on more images, or on a layer nearer to the CNN's end"
                )
            table = summarise(bundle, layer, mapper, found, sources, track=track)
            write_catalog(folder / bundles.layer_file("catalog", layer.name, "parquet"), table)
            entries.append(
                CatalogEntry(
                    layer=layer.name,
                    probe=probe.name,
                    images=found.images,
                    described=table.verdict.count("described"),
                    threshold_error=RELATIVE_ERROR,
                )
            )
        manifest = bundle.manifest.model_copy(update={"catalogs": tuple(entries)})
        bundles.write_manifest(folder, manifest)
    return bundles.open_bundle(bundle.path, trusted=True)


def stream(
    session: Any,  # noqa: ANN401 - onnxruntime.InferenceSession, which has no types
    probe: ImageSet,
    statistics: Sequence[LayerStatistics],
    *,
    track: Track = silent,
    say: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Runs the CNN over the probe set and feeds the statistics of every layer.

    Args:
        session: Of cnn.onnx.
        probe: The images.
        statistics: One for each layer of the graph, in its order.
        track: Shows progress.
        say: Told of images that could not be read.

    Returns:
        Names of the images that were read, in order.
    """
    names = [f"map_{i}" for i in range(len(statistics))]

    def look(batch: list[tuple[int, np.ndarray]]) -> tuple[list[int], list[np.ndarray]]:
        maps = session.run(names, {"images": np.stack([image for _, image in batch])})
        return [position for position, _ in batch], maps

    read: list[str] = []
    images = probe.readable("catalog", ahead=3 * BATCH, track=track, say=say)
    # The CNN looks at the next batch while this one is counted.
    for positions, maps in prefetch(look, batched(images, BATCH), workers=1, ahead=2):
        for found, layer_maps in zip(statistics, maps, strict=True):
            if not np.isfinite(layer_maps).all():
                bad = next(i for i in range(len(positions)) if not np.isfinite(layer_maps[i]).all())
                raise ImageError(
                    f"the CNN gives values that are not finite for {probe.sources[positions[bad]]}",
                    field="images",
                )
            found.update(layer_maps)
        read += [probe.sources[position] for position in positions]
    return read


def _is_skilled(mapper: MapperEntry) -> bool:
    """Whether it was measured to be worth something, or not measured for want of annotation."""
    return mapper.metrics.get(SKILL, 1.0) >= _LEAST_SKILL


def summarise(
    bundle: bundles.Bundle,
    layer: LayerEntry,
    mapper: MapperEntry,
    found: LayerStatistics,
    sources: Sequence[str],
    *,
    track: Track = silent,
) -> CatalogTable:
    """Turns a layer's statistics into its catalog.

    Args:
        bundle: Holds the mapper and the vocabulary.
        layer: The layer.
        mapper: Its entry in the manifest.
        found: What the stream left.
        sources: Names of the images, by position.
        track: Shows progress.

    Returns:
        The catalog.
    """
    words = bundle.words()
    table = describe(
        load_mapper(bundle, mapper),
        load_vocabulary(bundle),
        found,
        skilled=_is_skilled(mapper),
        track=track,
    )
    order = np.argsort(-found.activation, axis=1, kind="stable")[:, :_SHOWN_IMAGES]
    top_images = [
        [
            (sources[found.image[f, i]], float(found.activation[f, i]))
            for i in order[f]
            if found.image[f, i] >= 0
        ]
        for f in range(layer.channels)
    ]
    return CatalogTable(
        threshold=found.thresholds(),
        verdict=table.verdict,
        q_value=table.q_value,
        words=[[(words[i], share) for i, share in row] for row in table.words],
        top_images=top_images,
    )


def load_mapper(bundle: bundles.Bundle, entry: MapperEntry) -> MapperWeights:
    """Reads a layer's mapper as arrays.

    Args:
        bundle: Opened.
        entry: The mapper's entry in the manifest.

    Returns:
        The mapper.
    """
    arrays = read_tensors(bundle.file("mapper", entry.layer, "safetensors"))
    none = np.zeros((0, 0), dtype=np.float32)
    return MapperWeights(
        form=entry.form,
        n_own=entry.n_own,
        n_hidden=entry.n_hidden,
        W_first=arrays["W_first"],
        b_first=arrays["b_first"],
        W_second=arrays.get("W_second", none),
        b_second=arrays.get("b_second", none.ravel()),
        E=arrays.get("E", none),
        concepts=entry.concepts,
        logits_scale=entry.logits_scale,
    )


def load_vocabulary(bundle: bundles.Bundle) -> WordVectors:
    """The words that a bundle answers from."""
    grouped = read_tensors(bundle.path / "vocabulary.safetensors")["vocabulary"]
    size = bundle.manifest.vocabulary
    vectors = np.ascontiguousarray(grouped[: size.dimension, : size.size].T)
    return WordVectors(bundle.words(), vectors)
