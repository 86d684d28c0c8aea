"""What many tests share: a real bundle that takes seconds to make."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.tiny_bundle import teach_tiny_bundle
from tests.tiny_cnn import write_pictures, write_words

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("lavise", deadline=None)
settings.load_profile("lavise")


@pytest.fixture(scope="session")
def tiny_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures for each of six colours: a ``folder:`` dataset. Read only."""
    return write_pictures(tmp_path_factory.mktemp("tiny") / "pictures")


@pytest.fixture(scope="session")
def tiny_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GloVe text file of 16 words. Read only."""
    return write_words(tmp_path_factory.mktemp("tiny") / "words.txt")


@pytest.fixture(scope="session")
def tiny_bundle(
    tmp_path_factory: pytest.TempPathFactory, tiny_pictures: Path, tiny_words: Path
) -> Path:
    """A bundle with two layers, a linear head and a catalog. Read only: copy it to change it."""
    out = tmp_path_factory.mktemp("tiny") / "bundle"
    return teach_tiny_bundle(tiny_pictures, tiny_words, out)


@pytest.fixture(scope="session")
def tomato(tiny_pictures: Path) -> Path:
    return tiny_pictures / "tomato" / "00.png"
