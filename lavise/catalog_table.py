"""A layer's catalog as serving reads it: one row a filter, from catalog.LAYER.parquet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lavise.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

    from lavise.bundle import Bundle

Verdict = Literal["described", "uninterpretable"]


@dataclass(frozen=True)
class CatalogTable:
    """What is known of every filter of a layer over the probe set. C filters.

    Attributes:
        threshold: (C,) T_f, float32.
        verdict: C verdicts.
        q_value: (C,) Benjamini-Hochberg over the layer.
        words: For each filter, its words with their share of the votes, best first.
        top_images: For each filter, (source, activation) of the probe images that excite it
            most, best first.
    """

    threshold: np.ndarray
    verdict: list[Verdict]
    q_value: np.ndarray
    words: list[list[tuple[str, float]]]
    top_images: list[list[tuple[str, float]]]

    def cut(self, filters: np.ndarray, ceiling: float | None) -> np.ndarray:
        """The values that cells of some filters must exceed to count as active.

        Args:
            filters: Indices, of any shape.
            ceiling: Where the layer saturates, or None: a threshold at the ceiling is reached,
                since nothing can exceed it.

        Returns:
            float32 of the same shape: T_f, or just below the ceiling.
        """
        threshold = np.asarray(self.threshold[filters])
        if ceiling is not None:
            threshold = np.minimum(threshold, np.nextafter(np.float32(ceiling), np.float32(0)))
        return threshold

    def qualified(self, filters: np.ndarray, peak: np.ndarray, ceiling: float | None) -> np.ndarray:
        """Whether the maps of some filters exceed their thresholds.

        Args:
            filters: (F,) indices.
            peak: (F,) max of each map over space.
            ceiling: See cut().

        Returns:
            (F,) bool.
        """
        return np.asarray(peak > self.cut(filters, ceiling))


def write_catalog(path: Path, table: CatalogTable) -> None:
    """Writes a catalog as Parquet.

    Args:
        path: The file.
        table: The catalog.
    """

    def pairs(rows: list[list[tuple[str, float]]], name: str, number: str) -> pa.Array:
        return pa.array([[{name: a, number: b} for a, b in row] for row in rows])

    columns: dict[str, Any] = {
        "index": pa.array(np.arange(table.threshold.size), pa.int32()),
        "threshold": pa.array(table.threshold, pa.float32()),
        "verdict": pa.array(table.verdict, pa.string()),
        "q_value": pa.array(table.q_value, pa.float32()),
        "words": pairs(table.words, "word", "score"),
        "top_images": pairs(table.top_images, "source", "activation"),
    }
    pq.write_table(pa.table(columns), path)


def read_catalog(bundle: Bundle, layer: str) -> CatalogTable | None:
    """Reads the catalog of a layer.

    Args:
        bundle: Opened.
        layer: Its name.

    Returns:
        The catalog, or None where the layer was not described.

    Raises:
        BundleError: The file is no catalog of this layer.
    """
    if layer not in {entry.layer for entry in bundle.manifest.catalogs}:
        return None
    path = bundle.file("catalog", layer, "parquet")
    channels = next(e.channels for e in bundle.manifest.cnn.layers if e.name == layer)
    try:
        stored = pq.read_table(path)
        stored.validate(full=True)  # Arrow trusts the lengths and texts of a file else
        columns = stored.to_pydict()
        table = CatalogTable(
            threshold=np.array(columns["threshold"], dtype=np.float32),
            verdict=columns["verdict"],
            q_value=np.array(columns["q_value"], dtype=np.float32),
            words=[[(e["word"], e["score"]) for e in row] for row in columns["words"]],
            top_images=[
                [(e["source"], e["activation"]) for e in row] for row in columns["top_images"]
            ],
        )
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{path.name} is no readable catalog: {error}", field=path.name
        ) from error
    if table.threshold.size != channels:
        raise BundleError(
            f"{path.name} has {table.threshold.size} filters; layer {layer!r} has {channels}",
            field=path.name,
        )
    return table
