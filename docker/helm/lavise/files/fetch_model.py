"""Copies NAME.mar from an object store into the model store, whole or not at all."""

import shutil
import sys
from pathlib import Path

from pyarrow.fs import FileSystem


def fetch(url: str, model: str, folder: Path) -> Path:
    """Copies a model's archive.

    Args:
        url: The folder of the archives, such as ``s3://BUCKET/FOLDER?region=eu-central-1``.
        model: Its name.
        folder: The model store.

    Returns:
        The copy.
    """
    filesystem, path = FileSystem.from_uri(url)
    target = folder / f"{model}.mar"
    part = target.with_suffix(".part")
    with filesystem.open_input_stream(f"{path}/{target.name}") as source, part.open("wb") as copy:
        shutil.copyfileobj(source, copy, 2**20)
    return part.replace(target)


if __name__ == "__main__":
    copied = fetch(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    print(f"{copied}: {copied.stat().st_size:,} bytes")
