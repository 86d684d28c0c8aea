"""Arrays too large for memory, in parts on disk: each part one safetensors file.

A part's file name ends in the sha256 of what is in it, and the file is written under another name
and renamed: a part that is there under its name and has that digest is whole. Rows are read
through memory maps that live no longer than the read: what a process holds is what it asked for.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, overload

import numpy as np
from safetensors.numpy import save

from lavise.teach.whole_files import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_TYPES: Final[dict[str, type[np.generic]]] = {"F32": np.float32, "F16": np.float16, "I32": np.int32}


class Rows(Protocol):
    """A matrix, or a longer list of things, that is read by parts: an array is one."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """(n, ...)."""
        ...

    def __len__(self) -> int:
        """How many rows."""
        ...

    def __getitem__(self, key: Any, /) -> Any:  # noqa: ANN401 - as numpy's
        """Rows by a slice or by an array of positions, as an array."""
        ...


@dataclass(frozen=True)
class _Stored:
    """An array in a file: where it begins, its type and shape."""

    file: Path
    offset: int
    dtype: type[np.generic]
    shape: tuple[int, ...]

    def mapped(self) -> np.ndarray:
        if 0 in self.shape:  # nothing can be mapped where there is nothing
            return np.zeros(self.shape, dtype=self.dtype)
        return np.memmap(self.file, self.dtype, "r", self.offset, self.shape)


class Shard:
    """One part on disk.

    Args:
        file: Of write_shard; taken as whole (see find_shard).
    """

    def __init__(self, file: Path) -> None:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        self._stored: dict[str, _Stored] = {
            name: _Stored(
                file,
                8 + length + entry["data_offsets"][0],
                _TYPES[entry["dtype"]],
                tuple(entry["shape"]),
            )
            for name, entry in header.items()
            if name != "__metadata__"
        }

    @property
    def names(self) -> list[str]:
        """Of its arrays."""
        return list(self._stored)

    def array(self, name: str) -> np.ndarray:
        """An array, read whole."""
        return np.array(self._stored[name].mapped())

    def stored(self, name: str) -> _Stored:
        """Where an array lies."""
        return self._stored[name]


def write_shard(folder: Path, number: int, arrays: Mapping[str, np.ndarray]) -> Path:
    """Writes a part; a kill at any moment leaves it whole or not there.

    Args:
        folder: Of all parts.
        number: Of this part.
        arrays: Name to array of float32, float16 or int32.

    Returns:
        The file.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    digest = hashlib.sha256(data).hexdigest()
    file = folder / f"{number:06}-{digest}.safetensors"
    with whole_file(file) as stream:
        stream.write(data)
    return file


def find_shard(folder: Path, number: int) -> Shard | None:
    """Opens a part if it is there and is what was written; a damaged one is removed.

    Args:
        folder: Of all parts.
        number: Of this part.

    Returns:
        The part, or None.
    """
    for file in folder.glob(f"{number:06}-*.safetensors"):
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if file.name == f"{number:06}-{digest}.safetensors":
            return Shard(file)
        file.unlink()
    return None


class ShardedRows:
    """The rows of one array over all parts, in order.

    Args:
        parts: Each part's array, at least one; they agree in type and in all but the length.
    """

    def __init__(self, parts: Sequence[_Stored]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(part.shape[0] for part in parts)])
        self.dtype = np.dtype(parts[0].dtype)
        self.shape = (int(self._starts[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, key: slice) -> np.ndarray: ...
    @overload
    def __getitem__(self, key: np.ndarray) -> np.ndarray: ...
    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                return self._between(start, max(start, stop))
            wanted = np.arange(start, stop, step)
        else:
            wanted = np.asarray(key)
        if wanted.dtype == bool:
            wanted = np.flatnonzero(wanted)
        out = np.empty((len(wanted), *self.shape[1:]), dtype=self.dtype)
        part = np.searchsorted(self._starts, wanted, side="right") - 1
        for number in np.unique(part):
            here = part == number
            out[here] = self._parts[number].mapped()[wanted[here] - self._starts[number]]
        return out

    def _between(self, start: int, stop: int) -> np.ndarray:
        """Rows that lie one after the other, without a list of them."""
        out = np.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        for part, first in zip(self._parts, self._starts.tolist(), strict=False):
            begin, end = max(start, first), min(stop, first + part.shape[0])
            if begin < end:
                out[begin - start : end - start] = part.mapped()[begin - first : end - first]
        return out
