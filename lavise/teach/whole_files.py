"""Files that are there whole or not at all, whenever the process is killed."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def whole_file(file: Path) -> Iterator[IO[bytes]]:
    """Gives a stream whose bytes take the place of a file when the block ends well.

    Args:
        file: In a folder that is there.

    Yields:
        The stream.

    Raises:
        OSError: The disk is full or the folder cannot be written; the file is as it was.
    """
    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
