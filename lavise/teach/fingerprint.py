"""What a dataset's images and annotations were: a digest that changes when they do."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lavise.teach.annotated import Dataset

_PLAIN = (str, int, float, bool, bytes, type(None))


def fingerprint(dataset: Dataset) -> str:
    """Digests all that a dataset holds, and every file and folder that it points to.

    A file counts by path, size and time of change; a folder by all files in it. So an image that
    is replaced, an annotation that is corrected, and another seed each make another digest.

    Args:
        dataset: Any; its state is read, so that a new kind of dataset needs nothing more.

    Returns:
        sha256, in hexadecimal.

    Raises:
        TypeError: It holds something that has no state to read, such as a function.
    """
    digest = hashlib.sha256()
    _add(dataset, digest.update, set())
    return digest.hexdigest()


def _add(value: Any, update: Any, above: set[int]) -> None:  # noqa: ANN401 - any state
    """Adds a value; each kind with a mark of its own, so that no two values look alike."""
    if isinstance(value, _PLAIN):
        update(f"{type(value).__name__} {value!r}\n".encode())
    elif isinstance(value, Path):
        for line in _of_path(value):
            update(line)
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        update(f"array {value.dtype} {value.shape}\n".encode())
        update(np.ascontiguousarray(value).data)
    elif isinstance(value, np.generic):
        update(f"number {value.dtype} {value!r}\n".encode())
    elif id(value) in above:
        raise TypeError(f"{type(value).__name__} holds itself")
    else:
        parts = list(_parts(value))
        update(f"{type(value).__name__} {len(parts)}\n".encode())
        for part in parts:
            _add(part, update, above | {id(value)})


def _parts(value: Any) -> Iterable[Any]:  # noqa: ANN401 - any state
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, dict):
        return [part for item in value.items() for part in item]
    if is_dataclass(value):
        return [getattr(value, field.name) for field in fields(value)]
    if hasattr(value, "__dict__") and not callable(value):
        return [part for item in sorted(vars(value).items()) for part in item]
    raise TypeError(f"a {type(value).__name__} has no state to read")


def _of_path(path: Path) -> Iterator[bytes]:
    yield b"path " + os.fsencode(path) + b"\n"
    try:
        found = path.stat()
    except OSError:
        return
    if not stat.S_ISDIR(found.st_mode):
        yield f"{found.st_size} {found.st_mtime_ns}\n".encode()
        return
    folders = [path]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif entry.is_file():
                    one = entry.stat()
                    line = f" {one.st_size} {one.st_mtime_ns}\n"
                    yield os.fsencode(entry.path) + line.encode()
