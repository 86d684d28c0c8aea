"""Similarities of images and concepts by an image-text model, from a file: what soft-WPMI needs.

A table, CSV or Parquet: a column for each concept, named by it, and a row for each image of the
dataset, in the dataset's order. No model is shipped; a CLIP of one's own writes it in a few lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from lavise.errors import DatasetError, first_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_FIELD: Final = "similarities"
_MOST_VALUES: Final = 1 << 30
"""4 GB as float32."""


@dataclass(frozen=True)
class Similarities:
    """Similarities. n images, T concepts.

    Attributes:
        values: (n, T) float32, finite.
        concepts: T names.
    """

    values: np.ndarray
    concepts: tuple[str, ...]

    def categories(self, by_name: Mapping[str, int]) -> np.ndarray:
        """(T,) the category of each concept, by its name whatever its case; -1 for none."""
        lower = {name.casefold(): place for name, place in by_name.items()}
        return np.array([lower.get(c.casefold(), -1) for c in self.concepts], dtype=np.int64)


def read_similarities(file: Path, n_images: int) -> Similarities:
    """Reads a table of similarities.

    Args:
        file: CSV, or Parquet where it ends in .parquet.
        n_images: Of the dataset.

    Returns:
        The similarities.

    Raises:
        DatasetError: The file cannot be read, or does not fit the dataset.
    """
    accepted = (
        "accepted: a CSV or Parquet table of numbers with a column for each concept, named by it, "
        f"and a row for each of the dataset's {n_images:,} images, in their order"
    )

    def refused(why: str) -> DatasetError:
        return DatasetError(f"similarities {str(file)!r} {why}; {accepted}", field=_FIELD)

    try:
        if file.suffix.lower() == ".parquet":
            meta = parquet.read_metadata(file)
            if meta.num_rows != n_images or meta.num_rows * meta.num_columns > _MOST_VALUES:
                raise refused(f"has {meta.num_rows:,} rows and {meta.num_columns:,} columns")
            table = parquet.read_table(file)
        else:
            table = csv.read_csv(file)
    except (OSError, pa.ArrowException) as error:
        raise refused(f"cannot be read: {first_line(error)}") from error
    if not table.num_columns or table.num_rows != n_images:
        raise refused(f"has {table.num_rows:,} rows and {table.num_columns:,} columns")
    names: Sequence[str] = table.column_names
    values = np.empty((n_images, len(names)), dtype=np.float32)
    for place, name in enumerate(names):
        column = table.column(place)
        if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            raise refused(f"has a column {name!r} of {column.type}")
        values[:, place] = column.to_numpy()
        if not np.isfinite(values[:, place]).all():
            raise refused(f"has a value in column {name!r} that is no finite number")
    return Similarities(values, tuple(names))
