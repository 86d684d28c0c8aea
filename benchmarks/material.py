"""What the benchmarks work on: a bundle, a photograph, a folder of JPEG files."""

from __future__ import annotations

import shutil
from functools import cache
from typing import TYPE_CHECKING, Final

import onnx
from PIL import Image

from benchmarks.harness import BUILD, ROOT
from lavise import bundle as bundles
from lavise.catalog import load_mapper
from lavise.cnn import load_cnn
from lavise.demo.scenes import Scenes
from lavise.errors import BundleError
from lavise.manifest import VocabularyEntry
from lavise.teach.teaching import Plan, mapper_arrays, teach, write_graphs
from lavise.tensors import write_tensors
from lavise.words import load_words
from lavise.words_graph import grouped_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

_DEMO: Final = ROOT / "model_store" / "demo"
_OWN: Final = BUILD / "bench-bundle"
_ALL_WORDS: Final = BUILD / "bench-bundle-all-words"
_WHOLE_CNN: Final = BUILD / "bench-cnn.onnx"
_JPEGS: Final = BUILD / "bench-jpegs"
_WIDTH, _HEIGHT, _QUALITY = 640, 480, 90
_OWN_SCENES: Final = 1500


@cache
def bundle() -> bundles.Bundle:
    """The demo bundle where it was made; else one like it, taught once on fewer scenes."""
    for place in (_DEMO, _OWN):
        try:
            return bundles.open_bundle(place)
        except BundleError:
            continue
    plan = Plan(datasets=("own-classes", "demo"), demo_scenes=_OWN_SCENES)
    print(f"teaching a bundle into {_OWN} (a few minutes, once)")
    # A bundle there was written by another version: nothing of it is worth keeping.
    shutil.rmtree(_OWN, ignore_errors=True)
    return teach(load_cnn("efficientnet_lite0"), plan, _OWN)


@cache
def all_words_bundle() -> bundles.Bundle:
    """The same CNN and mapper, answering from all 400,000 words of GloVe."""
    source = bundle()
    try:
        made = bundles.open_bundle(_ALL_WORDS)
    except BundleError:
        pass
    else:
        if made.manifest.mappers == source.manifest.mappers:
            return made
    shutil.rmtree(_ALL_WORDS, ignore_errors=True)
    words = load_words("glove-50d")
    manifest = source.manifest.model_copy(
        update={
            "catalogs": (),
            "vocabulary": VocabularyEntry(
                words="glove-50d",
                restriction="all",
                size=len(words.words),
                dimension=words.vectors.shape[1],
            ),
        }
    )
    with bundles.writing(_ALL_WORDS) as folder:
        for name in ("cnn.onnx", "cnn.safetensors"):
            shutil.copy2(source.path / name, folder)
        text = "".join(f"{word}\n" for word in words.words)
        (folder / "vocabulary.txt").write_text(text, encoding="utf-8")
        vocabulary = {"vocabulary": grouped_vocabulary(words.vectors)}
        places = write_tensors(folder / "vocabulary.safetensors", vocabulary)
        pairs = zip(manifest.cnn.layers, manifest.mappers, strict=True)
        for position, (layer, entry) in enumerate(pairs):
            mapper = load_mapper(source, entry)
            file = folder / bundles.layer_file("mapper", layer.name, "safetensors")
            where = places | write_tensors(file, mapper_arrays(mapper))
            write_graphs(folder, layer, position, mapper, words, where)
        bundles.write_manifest(folder, manifest)
    return bundles.open_bundle(_ALL_WORDS)


@cache
def whole_cnn() -> Path:
    """The bundle's CNN as it would be without us: images in, logits out, and nothing else.

    Returns:
        An ONNX file.
    """
    _WHOLE_CNN.parent.mkdir(parents=True, exist_ok=True)
    whole = onnx.load(bundle().path / "cnn.onnx")
    onnx.save(onnx.utils.Extractor(whole).extract_model(["images"], ["logits"]), _WHOLE_CNN)
    return _WHOLE_CNN


def photograph() -> bytes:
    """A real photograph, encoded: the cat of the demo."""
    return (ROOT / "lavise" / "demo" / "chelsea.jpg").read_bytes()


@cache
def jpegs(n: int) -> list[Path]:
    """JPEG files of 640 x 480 pixels, written once: composed scenes, all different.

    Args:
        n: How many.

    Returns:
        Their paths, alone in their folder.
    """
    folder = _JPEGS.with_name(f"{_JPEGS.name}-{n}")
    paths = [folder / f"{i:04}.jpg" for i in range(n)]
    if not all(path.is_file() for path in paths):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        scenes = Scenes(range(n), seed=1, split="probe", size=_WIDTH)
        for path, scene in zip(paths, scenes, strict=True):
            Image.fromarray(scene.image[:_HEIGHT]).save(path, quality=_QUALITY)
    return paths
