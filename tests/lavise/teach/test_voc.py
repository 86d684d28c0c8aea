from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lavise.errors import DatasetError, ImageError
from lavise.teach.datasets import open_datasets
from lavise.teach.voc import CLASSES, VocDataset
from tests.coco_files import HEIGHT, SIZE, WIDTH, box_mask, write_picture

DOG, PERSON, VOID = 12, 15, 255


def indices() -> np.ndarray:
    """A dog and a person, with VOC's void outline around the dog."""
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[box_mask(18, 8, 14, 14)] = VOID
    labels[box_mask(20, 10, 10, 10)] = DOG
    labels[box_mask(36, 20, 6, 16)] = PERSON
    return labels


def write_mask(file: Path, labels: np.ndarray, mode: str = "P") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    if mode == "P":
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    (image if mode in {"P", "L"} else image.convert(mode)).save(file)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    folder = tmp_path / "VOC2012"
    for name in ("2007_000032", "2007_000033", "2007_000039"):
        write_picture(folder / "JPEGImages" / f"{name}.jpg", indices() == DOG)
        write_mask(folder / "SegmentationClass" / f"{name}.png", indices())
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n2007_000033\n")
    (lists / "val.txt").write_text("2007_000039\r\n")
    (lists / "trainval.txt").write_text("2007_000032\n2007_000033\n2007_000039\n")
    return folder


def test_classes_of_an_image(voc: Path) -> None:
    [dataset] = open_datasets([f"voc:{voc}"], seed=0).annotated
    assert dataset.spec == f"voc:{voc}"
    assert len(dataset) == 3  # each once, however many lists it is in
    assert len(dataset.categories) == 20
    assert {"potted plant", "dining table"} < set(dataset.categories)
    assert dataset.notes == ()
    for position in range(3):
        found = dataset.fetch(position, SIZE)
        assert [r.category for r in found.regions] == ["dog", "person"]
        dog, person = (region.mask for region in found.regions)
        np.testing.assert_array_equal(dog, box_mask(20, 10, 10, 10)[:, 10:50])
        np.testing.assert_array_equal(person, box_mask(36, 20, 6, 16)[:, 10:50])
        white = found.pixels[..., 0] > 147
        assert (dog & white).sum() / (dog | white).sum() > 0.9  # JPEG blurs


def test_grey_masks_count_too(voc: Path) -> None:
    write_mask(voc / "SegmentationClass" / "2007_000032.png", indices(), "L")
    dataset = VocDataset(voc)
    assert [r.category for r in dataset.fetch(0, SIZE).regions] == ["dog", "person"]


def test_what_is_listed_and_not_there(voc: Path) -> None:
    (voc / "ImageSets" / "Segmentation" / "test.txt").write_text(
        "2008_000001\n../../../etc/passwd\n2007_000032\n"
    )
    write_picture(voc / "JPEGImages" / "2008_000001.jpg")
    dataset = VocDataset(voc)
    assert len(dataset) == 3
    no_mask, no_image = dataset.notes
    assert "left out: images without a mask in SegmentationClass (1;" in no_mask
    assert "'2008_000001' of test.txt" in no_mask
    assert "left out: listed images that are not in JPEGImages" in no_image
    assert "etc/passwd" in no_image


@pytest.mark.parametrize(
    ("labels", "mode", "says"),
    [
        (indices(), "RGB", r"2007_000032\.png: a label image of mode RGB; accepted: palette"),
        (indices() * 0 + 21, "P", r"2007_000032\.png: index 21; accepted: 0 \(background\)"),
        (indices().T.copy(), "P", r"2007_000032\.jpg: 60 x 40 .* drawn on 40 x 60"),
    ],
)
def test_masks_that_are_not_vocs(voc: Path, labels: np.ndarray, mode: str, says: str) -> None:
    write_mask(voc / "SegmentationClass" / "2007_000032.png", labels, mode)
    dataset = VocDataset(voc)
    with pytest.raises(ImageError, match=says):
        dataset.fetch(0, SIZE)


def test_damaged_masks(voc: Path) -> None:
    mask = voc / "SegmentationClass" / "2007_000032.png"
    data = mask.read_bytes()
    dataset = VocDataset(voc)
    for damaged in (b"", data[:40], data[: len(data) - 30], b"no image"):
        mask.write_bytes(damaged)
        with pytest.raises(ImageError, match=r"2007_000032\.png"):
            dataset.fetch(0, SIZE)


def test_an_image_with_nothing_but_background(voc: Path) -> None:
    write_mask(voc / "SegmentationClass" / "2007_000033.png", indices() * 0)
    assert VocDataset(voc).fetch(1, SIZE).regions == ()


def test_folders_that_are_not_vocs(voc: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no list of images in .*accepted: a VOC folder"):
        VocDataset(tmp_path)
    lists = voc / "ImageSets" / "Segmentation"
    for file in lists.glob("*.txt"):
        file.write_text("none_of_them\n")
    with pytest.raises(
        DatasetError, match=r"nothing that can be used; left out: .*'none_of_them' of train"
    ):
        VocDataset(voc)
    (lists / "train.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match=r"cannot be read .*accepted: a VOC folder"):
        VocDataset(voc)
    (lists / "train.txt").write_text("2007_000032")
    (voc / "SegmentationClass").rename(voc / "other")
    with pytest.raises(DatasetError, match="SegmentationClass: no such folder"):
        VocDataset(voc)


def test_classes_are_in_vocs_order() -> None:
    assert (CLASSES[DOG - 1], CLASSES[PERSON - 1]) == ("dog", "person")
