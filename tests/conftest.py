"""What many tests share: a real bundle that takes seconds to make."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from lavise.bundle import open_bundle
from lavise.catalog import make_catalog
from lavise.cnn import load_cnn
from lavise.image_set import folder_images
from lavise.teach.teaching import Plan, teach
from lavise.teach.training import CONCEPTS_RECIPE
from tests.tiny_cnn import INPUT_SIZE, LAYERS, SPEC, write_pictures, write_words

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
    plan = Plan(
        datasets=(f"folder:{tiny_pictures}",),
        layers=LAYERS,
        words=f"file:{tiny_words}",
        vocabulary="all",
        name="tiny",
        # Few examples make few steps an epoch.
        recipe=replace(CONCEPTS_RECIPE, epochs=40, batch=16),
    )
    # Two threads wait for each other longer than such a small network computes.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        teach(load_cnn(SPEC), plan, out)
    finally:
        torch.set_num_threads(threads)
    make_catalog(open_bundle(out), folder_images(tiny_pictures, INPUT_SIZE), device="cpu")
    return out


@pytest.fixture(scope="session")
def tomato(tiny_pictures: Path) -> Path:
    return tiny_pictures / "tomato" / "00.png"
