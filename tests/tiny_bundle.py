"""The bundle of the tiny CNN, taught in seconds."""

from dataclasses import replace
from pathlib import Path

import torch

from lavise.bundle import open_bundle
from lavise.catalog import make_catalog
from lavise.cnn import load_cnn
from lavise.image_set import folder_images
from lavise.teach.teaching import Plan, teach
from lavise.teach.training import CONCEPTS_RECIPE
from tests.tiny_cnn import INPUT_SIZE, LAYERS, SPEC


def teach_tiny_bundle(pictures: Path, words: Path, out: Path, *, own_classes: bool = False) -> Path:
    """Writes a bundle with two layers, a linear head and a catalog.

    Args:
        pictures: From ``write_pictures``.
        words: From ``write_words``.
        out: The folder that it becomes.
        own_classes: Whether the CNN's own classes are taught as well.
    """
    plan = Plan(
        datasets=(f"folder:{pictures}", *([f"own-classes:{pictures}"] if own_classes else [])),
        layers=LAYERS,
        words=f"file:{words}",
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
    make_catalog(open_bundle(out), folder_images(pictures, INPUT_SIZE), device="cpu")
    return out
