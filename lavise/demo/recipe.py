"""The demo bundle: how it is taught and described, and whether the one on disk is that one."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from lavise.bundle import Bundle, open_bundle
from lavise.demo.scenes import Scenes
from lavise.errors import BundleError
from lavise.progress import Track, silent

_PACKAGE: Final = Path(__file__).parents[1]
_NO_INGREDIENTS: Final = (
    "cli",
    "client",
    "evaluate",
    "report",
    "v1",
    "bias.py",
    "demo/image_sets.py",
    "explainer.py",
    "explanation.py",
    "filter_tests.py",
    "messages.py",
    "options.py",
    "permutation.py",
    "profile.py",
    "profiling.py",
)
"""What of the package teaches nothing; whatever else changes makes a bundle stale."""


@dataclass(frozen=True)
class DemoRecipe:
    """What the demo teaches.

    Attributes:
        cnn: CNN spec.
        datasets: Dataset specs.
        layers: Target layers; the CNN's default when empty.
        words: Word spec.
        vocabulary: Vocabulary spec.
        n_scenes: Composed scenes to teach on, where ``demo`` is among the datasets.
        n_probe: Composed scenes to describe the filters over; no scene is among those taught.
        seed: Of everything.
    """

    cnn: str = "efficientnet_lite0"
    datasets: tuple[str, ...] = ("own-classes", "demo")
    layers: tuple[str, ...] = ()
    words: str = "glove-50d"
    vocabulary: str = "concrete-nouns"
    n_scenes: int = 10_000
    n_probe: int = 2000
    seed: int = 0


def demo_bundle(
    folder: Path,
    recipe: DemoRecipe,
    *,
    track: Track = silent,
    say: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Opens the demo bundle; makes it first where there is none, a damaged or a stale one.

    Args:
        folder: Of the bundle; ``FOLDER.recipe.json`` beside it says how it was made.
        recipe: How it is to be made.
        track: Shows progress.
        say: Told what is done and why.

    Returns:
        The bundle, verified, with its catalog.

    Raises:
        BundleError: Something that is no bundle is in its place.
        EnvironmentProblem: A package is missing or the disk is full.
    """
    stamp = folder.with_name(f"{folder.name}.recipe.json")
    present = asdict(recipe) | {"ingredients": ingredients()}
    present = json.loads(json.dumps(present))  # as it is read back: no tuples
    try:
        bundle = open_bundle(folder)
    except BundleError as error:
        reason = error.message
    else:
        if _read(stamp) == present | {"bundle": bundle.digest}:
            return bundle
        reason = f"{str(folder)!r} was made by another recipe"
    if folder.exists():
        say(f"making the demo bundle again: {reason}")
    bundle = _make(folder, recipe, track, say)
    stamp.write_text(json.dumps(present | {"bundle": bundle.digest}, indent=2), encoding="utf-8")
    return bundle


def ingredients() -> str:
    """A digest of all code and data of this package that a bundle comes out of."""
    digest = hashlib.sha256()
    for file in sorted(_PACKAGE.rglob("*")):
        inside = file.relative_to(_PACKAGE)
        left_out = {inside.parts[0], inside.as_posix()} & set(_NO_INGREDIENTS)
        if file.is_file() and file.suffix != ".pyc" and not left_out:
            digest.update(f"{inside.as_posix()}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _read(stamp: Path) -> Any:  # noqa: ANN401 - any JSON: a person may have changed it
    try:
        return json.loads(stamp.read_bytes())
    except (OSError, ValueError):
        return None


def _make(folder: Path, recipe: DemoRecipe, track: Track, say: Callable[[str], None]) -> Bundle:
    from lavise.catalog import make_catalog
    from lavise.cnn import load_cnn
    from lavise.image_set import ImageSet
    from lavise.teach.teaching import Plan, teach

    plan = Plan(
        datasets=recipe.datasets,
        layers=recipe.layers,
        words=recipe.words,
        vocabulary=recipe.vocabulary,
        name="demo",
        seed=recipe.seed,
        demo_scenes=recipe.n_scenes,
    )
    taught = teach(load_cnn(recipe.cnn), plan, folder, track=track, say=say)
    scenes = Scenes(
        range(recipe.n_probe),
        seed=recipe.seed,
        split="probe",
        size=taught.manifest.cnn.input_size,
    )
    probe = ImageSet(
        name="composed scenes",
        sources=[f"scene {number}" for number in scenes.indices],
        fetch=lambda position: scenes[position].image,
    )
    return make_catalog(taught, probe, track=track, say=say)
