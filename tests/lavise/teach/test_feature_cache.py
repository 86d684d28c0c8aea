"""Features on disk are those in memory; what is there is used, what is not or is other is made."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lavise.cnn import load_cnn
from lavise.cnn_graph import export_cnn
from lavise.errors import EnvironmentProblem
from lavise.manifest import CnnEntry
from lavise.runtime import open_session
from lavise.teach import feature_cache, features
from lavise.teach.annotated import Dataset
from lavise.teach.datasets import DemoDataset, FolderDataset, UnlabelledDataset
from lavise.teach.feature_cache import cached_features
from lavise.teach.features import Features, extract_features
from lavise.teach.fitting import PLAINLY
from tests.full_disk import no_file_over
from tests.tiny_cnn import INPUT_SIZE, LAYERS, SPEC, picture


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CnnEntry]:
    graph = tmp_path_factory.mktemp("cnn") / "cnn.onnx"
    return graph, export_cnn(load_cnn(SPEC), LAYERS, graph)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "SHARD_IMAGES", 16)  # one batch


class Session:
    """A real session that counts its runs, and may break off."""

    def __init__(self, graph: Path) -> None:
        self._session = open_session(graph, threads=1)
        self.get_outputs = self._session.get_outputs
        self.get_providers = self._session.get_providers
        self.runs, self.most = 0, 10**9

    def run(self, names: Any, fed: Any) -> Any:
        if self.runs >= self.most:
            raise KeyboardInterrupt
        self.runs += 1
        return self._session.run(names, fed)


class Cache:
    """cached_features with what the tests do not change filled in."""

    def __init__(self, exported: tuple[Path, CnnEntry], folder: Path) -> None:
        self.graph, self.entry = exported
        self.folder = folder
        self.session = Session(self.graph)
        self.told: list[str] = []

    def __call__(self, *datasets: Dataset, **changes: Any) -> Features:
        found, _ = cached_features(
            self.session,
            datasets,
            self.folder,
            graph=self.graph,
            entry=self.entry.model_copy(update=changes),
            workers=1,
            running=replace(PLAINLY, say=self.told.append),
        )
        return found

    def parts(self) -> list[Path]:
        return sorted(self.folder.glob("features-*/*.safetensors"))

    def keys(self) -> list[Any]:
        return [json.loads(file.read_text()) for file in self.folder.glob("features-*/key.json")]


@pytest.fixture
def cache(exported: tuple[Path, CnnEntry], tmp_path: Path) -> Cache:
    return Cache(exported, tmp_path / "cache")


@pytest.fixture
def pictures(tiny_pictures: Path, tmp_path: Path) -> Path:
    """72 pictures, 5 parts."""
    return Path(shutil.copytree(tiny_pictures, tmp_path / "pictures"))


def equal(one: Features, other: Features) -> None:
    assert one.categories == other.categories
    np.testing.assert_array_equal(one.category, other.category)
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.logits[:], other.logits[:])
    for a, b in zip(one.layers, other.layers, strict=True):
        np.testing.assert_array_equal(a.regions[:], b.regions[:])
        np.testing.assert_array_equal(a.images[:], b.images[:])
        np.testing.assert_array_equal(a.peak, b.peak)
        assert a.lowest == b.lowest


def test_features_on_disk_are_those_in_memory(cache: Cache, pictures: Path) -> None:
    datasets = (DemoDataset(0, 20), FolderDataset(pictures), UnlabelledDataset(pictures))
    kept = cache(*datasets)
    assert kept.logits.shape == (164, 4)
    equal(kept, extract_features(cache.session, datasets, size=INPUT_SIZE))


def test_what_is_there_is_not_made_again(cache: Cache, pictures: Path) -> None:
    first = cache(FolderDataset(pictures))
    assert (cache.session.runs, cache.told) == (5, [])
    again = cache(FolderDataset(pictures))
    assert cache.session.runs == 5
    assert [line.startswith("using the features in") for line in cache.told] == [True]
    equal(first, again)


@pytest.mark.parametrize("most", [0, 1, 3, 4])
def test_a_pass_that_was_broken_off_goes_on(most: int, cache: Cache, pictures: Path) -> None:
    """It loses the part that it was at, and no more."""
    cache.session.most = most
    with pytest.raises(KeyboardInterrupt):
        cache(FolderDataset(pictures))
    assert len(cache.parts()) == most
    cache.session.most = 10**9
    found = cache(FolderDataset(pictures))
    assert cache.session.runs == 5
    assert cache.told == (
        [
            f"using {most} of 5 parts of the features in {place}"
            for place in {part.parent for part in cache.parts()}
        ]
        if most
        else []
    )
    equal(found, extract_features(cache.session, [FolderDataset(pictures)], size=INPUT_SIZE))


def test_a_damaged_part_is_made_again(cache: Cache, pictures: Path) -> None:
    first = cache(FolderDataset(pictures))
    damaged, removed, *_ = cache.parts()
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    removed.unlink()
    equal(first, cache(FolderDataset(pictures)))
    assert cache.session.runs == 7
    assert len(cache.parts()) == 5


def test_other_images_are_other_features(cache: Cache, pictures: Path) -> None:
    before = cache(FolderDataset(pictures))
    picture((0, 0, 0), 1).save(pictures / "lemon" / "00.png")
    after = cache(FolderDataset(pictures))
    assert cache.session.runs == 10
    assert (before.layers[0].images[:] != after.layers[0].images[:]).any()


def test_all_that_features_depend_on_is_in_the_key(
    cache: Cache, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, unlabelled = FolderDataset(pictures), UnlabelledDataset(pictures)
    layers = cache.entry.layers
    cache(folder)
    cache(unlabelled)
    cache(folder, unlabelled)
    cache(unlabelled, folder)
    cache(folder, layers=layers[::-1])
    cache(folder, spec="another")
    for name, value in (
        ("_code_digest", lambda: "another"),
        ("version", lambda _: "another"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(feature_cache, name, value)
            cache(folder)
    other = cache.graph.with_name("other.onnx")
    other.write_bytes(cache.graph.read_bytes() + b"\x7a\x00")  # an empty metadata field
    cache.graph = other
    cache(folder)
    assert len(cache.keys()) == 9
    assert cache.told == []


def test_a_change_of_the_code_changes_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(feature_cache._PACKAGE, tmp_path / "lavise"))
    here = feature_cache._code_digest()
    monkeypatch.setattr(feature_cache, "_PACKAGE", copy)
    assert feature_cache._code_digest() == here
    for name in ("attention.py", "teach/features.py", "teach/coco.py", "demo/scenes.py"):
        file = copy / name
        text = file.read_text()
        file.write_text(text + "#\n")
        assert feature_cache._code_digest() != here
        file.write_text(text)
    (copy / "explainer.py").write_text("")
    assert feature_cache._code_digest() == here


@pytest.mark.parametrize("limit", [10, 2000])
def test_a_full_disk(limit: int, cache: Cache, pictures: Path) -> None:
    with (
        no_file_over(limit),
        pytest.raises(EnvironmentProblem, match="could not be kept") as caught,
    ):
        cache(FolderDataset(pictures))
    assert caught.value.field == "cache"
    assert not [p for p in cache.folder.rglob("*") if p.is_file() and p.name != "key.json"]
    cache(FolderDataset(pictures))
    assert len(cache.parts()) == 5


def test_a_cache_that_is_a_file(cache: Cache, pictures: Path) -> None:
    cache.folder.write_text("")
    with pytest.raises(EnvironmentProblem, match="could not be kept") as caught:
        cache(FolderDataset(pictures))
    assert caught.value.field == "cache"
