"""Writes the seeds of every target into a folder: ``python tests/fuzz/write_seeds.py FOLDER``.

Beside them lies the bundle whose files are replaced. It runs in the environment that teaches; the
fuzzing itself needs none of that.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz import seeds
from tests.fuzz.targets import BundleTarget
from tests.tiny_bundle import teach_tiny_bundle
from tests.tiny_cnn import write_pictures, write_words


def _write(folder: Path, contents: Sequence[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(contents):
        (folder / f"seed-{number:03}").write_bytes(content)


def main(out: Path) -> None:
    """Writes them."""
    bundle = out / "tiny-bundle"
    with tempfile.TemporaryDirectory() as made:
        pictures = write_pictures(Path(made) / "pictures")
        teach_tiny_bundle(pictures, write_words(Path(made) / "words.txt"), bundle)
        target = BundleTarget(bundle, Path(made))
        _write(out / "bundle" / "seeds", seeds.bundles(target, bundle))
    _write(out / "image" / "seeds", seeds.images())
    _write(out / "request" / "seeds", seeds.requests())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
