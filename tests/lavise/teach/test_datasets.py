import shutil
from pathlib import Path

import numpy as np
import pytest

from lavise.errors import DatasetError, ImageError, SpecError
from lavise.images import list_images, prepare
from lavise.teach.datasets import (
    ACCEPTED,
    DemoDataset,
    FolderDataset,
    UnlabelledDataset,
    open_datasets,
)
from tests.tiny_cnn import COLOURS


@pytest.fixture
def copy(tiny_pictures: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_pictures, tmp_path / "pictures"))


def test_demo_scenes() -> None:
    dataset = DemoDataset(seed=3, n_scenes=4)
    assert len(dataset) == 4
    for position in range(4):
        image = dataset.fetch(position, 96)
        again = dataset.fetch(position, 96)
        assert image.pixels.shape == (96, 96, 3)
        assert image.pixels.dtype == np.uint8
        np.testing.assert_array_equal(image.pixels, again.pixels)
        assert image.regions
        for region in image.regions:
            assert region.category in dataset.categories
            assert region.mask.shape == (96, 96)
            assert region.mask.dtype == bool
            assert region.mask.any()
    other = DemoDataset(seed=3, n_scenes=4, split="held-out").fetch(0, 96)
    assert (other.pixels != dataset.fetch(0, 96).pixels).any()


def test_folder_of_folders(copy: Path) -> None:
    (copy / "great_white_shark").mkdir()
    (copy / "tomato" / "00.png").rename(copy / "great_white_shark" / "deep.png")
    (copy / "empty").mkdir()
    (copy / "notes").mkdir()
    (copy / "notes" / "read.txt").write_text("no image")
    (copy / "loose.png").write_bytes((copy / "tomato" / "01.png").read_bytes())

    dataset = FolderDataset(copy)

    assert set(dataset.categories) == {*COLOURS, "great white shark"}
    assert len(dataset) == 72
    assert dataset.spec == f"folder:{copy}"
    seen = []
    for position in range(len(dataset)):
        image = dataset.fetch(position, 24)
        [region] = image.regions
        assert image.pixels.shape == (24, 24, 3)
        assert region.mask.shape == (24, 24)
        assert region.mask.all()
        seen.append(region.category)
    assert seen.count("great white shark") == 1
    assert seen.count("tomato") == 11


def test_folder_fetches_what_prepare_makes(copy: Path) -> None:
    dataset, files = FolderDataset(copy), list_images(copy)
    for position in (0, 13):
        np.testing.assert_array_equal(
            dataset.fetch(position, 16).pixels, prepare(files[position].read_bytes(), 16)
        )


def test_unlabelled_images(copy: Path) -> None:
    dataset = UnlabelledDataset(copy)
    assert dataset.spec == f"own-classes:{copy}"
    assert dataset.categories == ()
    assert len(dataset) == 72
    assert dataset.fetch(71, 16).regions == ()


@pytest.mark.parametrize("kind", [FolderDataset, UnlabelledDataset])
def test_a_bad_image_is_named(kind: type[FolderDataset | UnlabelledDataset], copy: Path) -> None:
    (copy / "lemon" / "00.png").write_bytes(b"no image")
    dataset = kind(copy)
    with pytest.raises(ImageError, match=r"lemon/00\.png"):
        dataset.fetch(0, 16)
    (copy / "lemon" / "00.png").unlink()
    with pytest.raises(ImageError, match=r"lemon/00\.png: cannot be read"):
        dataset.fetch(0, 16)


def test_several_at_once(copy: Path) -> None:
    specs = ["own-classes", "demo", f"folder:{copy}", f"own-classes:{copy}", "demo"]
    datasets = open_datasets(specs, seed=1, demo_scenes=7)
    assert datasets.own_classes
    assert [d.spec for d in datasets.annotated] == ["demo", f"folder:{copy}"]
    assert [len(d) for d in datasets.annotated] == [7, 72]
    assert [d.spec for d in datasets.unlabelled] == [f"own-classes:{copy}"]


def test_own_classes_alone_look_at_scenes() -> None:
    datasets = open_datasets(["own-classes"], seed=1, demo_scenes=5)
    assert datasets.own_classes
    assert datasets.annotated == ()
    assert [len(d) for d in datasets.unlabelled] == [5]
    assert not open_datasets(["demo"], seed=1).own_classes


@pytest.mark.parametrize(
    "spec",
    [
        *("", ":", "demo:x", "folder", "folder:", "own_classes", "broden", "voc:", "detections:"),
        *("coco", "coco:", "coco:images", "coco::file.json", "coco:images:", "vg:images", "yolo:x"),
    ],
)
def test_unknown_specs_say_what_is_accepted(spec: str) -> None:
    with pytest.raises(SpecError) as caught:
        open_datasets([spec], seed=0)
    assert ACCEPTED in caught.value.message
    assert caught.value.field == "dataset"


def test_no_spec_at_all() -> None:
    with pytest.raises(SpecError, match="at least one dataset"):
        open_datasets([], seed=0)


def test_folders_with_nothing_to_use(tmp_path: Path, copy: Path) -> None:
    empty = tmp_path / "empty"
    (empty / "zebra").mkdir(parents=True)
    for spec, says in (
        (f"folder:{tmp_path / 'nowhere'}", "no such folder"),
        (f"folder:{empty}", "no usable category"),
        (f"folder:{copy / 'lemon'}", "no usable category"),  # images, but in no folder each
        (f"folder:{copy / 'lemon' / '00.png'}", "no such folder"),
        (f"own-classes:{empty}", "no image"),
        (f"own-classes:{tmp_path / 'nowhere'}", "no such folder"),
    ):
        with pytest.raises(DatasetError, match=says):
            open_datasets([spec], seed=0)
