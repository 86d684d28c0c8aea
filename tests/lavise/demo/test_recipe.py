"""The demo from end to end, with a CNN that is taught in seconds and a real TorchServe."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lavise.bundle import open_bundle
from lavise.cli.demo import agree, ask, make
from lavise.demo.recipe import DemoRecipe, demo_bundle
from tests.tiny_cnn import SPEC


@pytest.fixture(scope="module")
def recipe(tiny_pictures: Path, tiny_words: Path) -> DemoRecipe:
    return DemoRecipe(
        cnn=SPEC,
        datasets=("own-classes", f"folder:{tiny_pictures}"),
        layers=("body",),
        words=f"file:{tiny_words}",
        vocabulary="all",
        n_probe=32,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, recipe: DemoRecipe) -> Path:
    folder = tmp_path_factory.mktemp("store")
    make(folder, recipe)
    return folder


def test_the_bundle_has_a_catalog_over_scenes(store: Path) -> None:
    manifest = open_bundle(store / "demo").manifest

    assert [(c.probe, c.images) for c in manifest.catalogs] == [("composed scenes", 32)]
    assert manifest.mappers[0].n_own == 4
    assert (store / "lavise.mar").is_file()


def test_a_whole_bundle_of_the_same_recipe_is_used_again(store: Path, recipe: DemoRecipe) -> None:
    before = (store / "demo" / "manifest.json").stat()
    archive = (store / "lavise.mar").read_bytes()

    make(store, recipe)

    assert (store / "demo" / "manifest.json").stat() == before
    assert (store / "lavise.mar").read_bytes() == archive


@pytest.mark.teach
def test_a_stale_or_damaged_bundle_is_made_again(store: Path, recipe: DemoRecipe) -> None:
    said: list[str] = []
    folder = store / "demo"
    stamp = store / "demo.recipe.json"
    first = open_bundle(folder)

    other = demo_bundle(folder, replace(recipe, seed=1), say=said.append)
    assert "was made by another recipe" in said[0]
    assert other.manifest.mappers[0].seed == 1

    stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"ingredients": "older"}))
    again = demo_bundle(folder, recipe, say=said.append)
    assert "was made by another recipe" in said[1]
    assert again.manifest.files["vocabulary.txt"] == first.manifest.files["vocabulary.txt"]

    (folder / "vocabulary.txt").write_text("one byte more\n")
    whole = demo_bundle(folder, recipe, say=said.append)
    assert "vocabulary.txt" in said[2]
    assert demo_bundle(folder, recipe, say=said.append).digest == whole.digest
    assert len(said) == 3


@pytest.mark.server
def test_all_doors_are_asked(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask(store)

    said = capsys.readouterr()
    assert said.out.count("chelsea.jpg\nthe CNN says: ") == 2
    answers, _, comparison = said.out.partition("Both doors give the same answer.")
    assert answers.count("body/") == 20
    assert "guitars common (120 images)" in comparison
    assert (store / "comparison.html").read_text(encoding="utf-8").count("data:image") > 8
    assert "/v1/explain" in said.out.splitlines()[-1]
    assert "Traceback" not in said.err


def test_agree() -> None:
    words = [{"word": "cat", "score": 0.5}]
    assert agree(
        {"words": words, "index": 3}, {"words": [{"word": "cat", "score": 0.50001}], "index": 3}
    )
    assert not agree({"words": words}, {"words": [{"word": "dog", "score": 0.5}]})
    assert not agree({"words": words}, {"words": []})
    assert not agree({"words": words}, {"words": words, "index": 3})
    assert not agree(0.5, 0.51)
    assert not agree({"index": 3}, {"index": 4})
