"""Named arrays on disk as safetensors, and the place of each, for ONNX graphs to share them."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lavise.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import DTypeLike


@dataclass(frozen=True)
class Location:
    """Where an array lies in a file.

    Attributes:
        file: The file's name, without folder.
        offset: First byte.
        length: Bytes.
        shape: Of the array.
        dtype: Likewise.
    """

    file: str
    offset: int
    length: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def write_tensors(
    path: Path, arrays: Mapping[str, np.ndarray], *, dtype: DTypeLike | None = np.float32
) -> dict[str, Location]:
    """Writes arrays and says where each lies.

    Args:
        path: The .safetensors file.
        arrays: Name to array.
        dtype: What they are written as; as what they are when None.

    Returns:
        Name to location.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    contiguous = {k: np.ascontiguousarray(v, dtype=dtype) for k, v in arrays.items()}
    try:
        save_file(contiguous, path)
    except SafetensorError as error:  # how safetensors reports a full disk
        raise OSError(f"{path.name}: {error}") from error
    path.chmod(0o644)  # safetensors writes for its owner alone; serving may be another user
    with path.open("rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(header_bytes))
    places = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        places[name] = Location(
            file=path.name,
            offset=8 + header_bytes + begin,
            length=end - begin,
            shape=tuple(entry["shape"]),
            dtype=contiguous[name].dtype,
        )
    return places


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Reads what write_tensors wrote.

    Args:
        path: The .safetensors file.

    Returns:
        Name to array.

    Raises:
        BundleError: It is no such file.
    """
    try:
        return dict(load_file(path))
    except (SafetensorError, KeyError, ValueError) as error:
        raise BundleError(f"{path.name} is no readable safetensors file: {error}") from error
