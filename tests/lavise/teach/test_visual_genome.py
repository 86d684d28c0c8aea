import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise.errors import DatasetError, ImageError, LaviseError
from lavise.teach.datasets import open_datasets
from lavise.teach.visual_genome import FEWEST_IMAGES, VisualGenomeDataset
from lavise.wordnet import class_words
from tests.coco_files import SIZE, box_mask, write_picture


def thing(name: str = "dog", synset: str = "dog.n.01", **others: Any) -> dict[str, Any]:
    entry = {
        "synsets": [synset] if synset else [],
        "names": [name],
        "object_id": 1058549,
        "merged_object_ids": [],
        **dict(zip("xywh", (12, 5, 10, 8), strict=True)),
    }
    return entry | others


def entry(key: int, *objects: Any) -> dict[str, Any]:
    return {"image_id": key, "objects": list(objects), "image_url": f"https://x/VG_100K/{key}.jpg"}


def written(folder: Path, entries: list[Any]) -> tuple[Path, Path]:
    for key in (1, 2, 30):
        write_picture(folder / "images" / ("VG_100K" if key < 9 else "VG_100K_2") / f"{key}.jpg")
    write_picture(folder / "images" / "cover.png")
    (folder / "objects.json").write_text(json.dumps(entries))
    return folder / "images", folder / "objects.json"


def opened(folder: Path, entries: list[Any], fewest_images: int = 1) -> VisualGenomeDataset:
    return VisualGenomeDataset(*written(folder, entries), fewest_images=fewest_images)


def names(dataset: VisualGenomeDataset, position: int) -> list[str]:
    return [region.category for region in dataset.fetch(position, SIZE).regions]


def test_objects_merge_by_meaning(tmp_path: Path) -> None:
    dataset = opened(
        tmp_path,
        [
            entry(
                30,
                thing("puppy", "dog.n.01"),
                thing("traffic signal", "traffic_light.n.01"),
                thing("Stop  Sign ", ""),
                thing("x", "no synset"),
            ),
            entry(2),
            entry(1, thing("DOG", ""), thing("pooch", "dog.n.01", names=["pooch", "dog"])),
        ],
    )
    assert dataset.categories == ("dog", "traffic light", "stop sign", "x")
    assert len(dataset) == 3
    assert names(dataset, 0) == ["dog", "traffic light", "stop sign", "x"]
    assert names(dataset, 1) == []
    assert names(dataset, 2) == ["dog", "dog"]
    assert dataset.notes == ()


@pytest.mark.parametrize("synset", ["dog.n.01", "domestic_ass.n.01", "traffic_light.n.01"])
def test_a_synset_is_named_by_its_first_lemma(synset: str) -> None:
    name = synset.partition(".")[0].replace("_", " ")
    known = class_words(name)
    assert known is not None
    assert name in {sense.lemmas[0] for sense in known.senses}


def test_the_older_layout(tmp_path: Path) -> None:
    old = {"id": 2, "objects": [{"id": 7, "name": "tree", "x": 20, "y": 2, "w": 5, "h": 6}]}
    dataset = opened(tmp_path, [old])
    [region] = dataset.fetch(0, SIZE).regions
    assert region.category == "tree"
    np.testing.assert_array_equal(region.mask, box_mask(20, 2, 5, 6)[:, 10:50])


def test_boxes_beyond_the_image_are_clipped(tmp_path: Path) -> None:
    dataset = opened(
        tmp_path,
        [
            entry(
                1,
                thing(x=-5, y=-9, w=30, h=20),
                thing(x=40, y=30, w=500, h=500),
                thing(x=200, y=5),  # outside altogether
                thing(x=0, y=0, w=9, h=9),  # where the crop cuts
            )
        ],
    )
    masks = [region.mask for region in dataset.fetch(0, SIZE).regions]
    assert len(masks) == 2
    np.testing.assert_array_equal(masks[0], box_mask(0, 0, 25, 11)[:, 10:50])
    np.testing.assert_array_equal(masks[1], box_mask(40, 30, 20, 10)[:, 10:50])


def test_categories_of_few_images_are_left_out(tmp_path: Path) -> None:
    entries = [
        # Five objects in one image are one image.
        entry(1, *[thing("cat", "cat.n.01")] * 5, thing()),
        entry(2, thing("bird", "bird.n.01"), thing()),
        entry(30, thing("bird", "bird.n.01")),
    ]
    dataset = opened(tmp_path, entries, fewest_images=2)
    assert dataset.categories == ("dog", "bird")
    assert [names(dataset, i) for i in range(3)] == [["dog"], ["bird", "dog"], ["bird"]]
    [note] = dataset.notes
    assert (
        "left out: categories of fewer than 2 images, with 5 objects (1; the first: 'cat'" in note
    )
    with pytest.raises(DatasetError, match=f"fewer than {FEWEST_IMAGES} images"):
        open_datasets([f"vg:{tmp_path / 'images'}:{tmp_path / 'objects.json'}"], seed=0)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (thing(w=-3), "boxes without an area"),
        (thing(h=0), "boxes without an area"),
        (thing(x=float("nan")), "boxes that are not finite"),
        (thing(x=1e999), "boxes that are not finite"),
        (thing(x="1"), "boxes that are not four numbers"),
        (thing(x=None), "boxes that are not four numbers"),
        (thing("", ""), "objects without a name"),
        (thing("", "", names=5, synsets=[None, 3]), "objects without a name"),
        (7, "objects that are no JSON objects"),
    ],
)
def test_objects_that_cannot_be_used(tmp_path: Path, broken: object, reason: str) -> None:
    dataset = opened(tmp_path, [entry(1, broken, thing())])
    [note] = dataset.notes
    assert f"left out: {reason} (1; the first: element 0.objects[0]" in note
    assert names(dataset, 0) == ["dog"]


def test_images_that_are_not_there(tmp_path: Path) -> None:
    dataset = opened(tmp_path, [entry(99, thing()), entry(1, thing()), entry(1, thing())])
    missing, again = dataset.notes
    assert "left out: images that are not in" in missing
    assert "number 99" in missing
    assert "left out: entries of an image that has one already (1; the first: element 2" in again
    assert len(dataset) == 1
    (tmp_path / "images" / "VG_100K" / "1.jpg").unlink()
    with pytest.raises(ImageError, match=r"1\.jpg: cannot be read"):
        dataset.fetch(0, SIZE)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([{"objects": []}], "element 0 .*image_id is None; accepted: a whole number"),
        ([entry(1), {"image_id": "../../etc/passwd", "objects": []}], "element 1 .*image_id is"),
        ([{"image_id": 1}], "objects is NoneType; accepted: an array"),
        ([{"image_id": 1, "objects": {}}], "objects is dict"),
        ([1], "is no object"),
        ([], "nothing that can be used"),
        ([entry(1)], "nothing that can be used"),
        ({"images": []}, "nothing that can be used"),
    ],
)
def test_files_that_are_not_visual_genomes(tmp_path: Path, entries: Any, says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        opened(tmp_path, entries)


def test_images_without_numbers(tmp_path: Path) -> None:
    _, file = written(tmp_path, [entry(1, thing())])
    write_picture(tmp_path / "others" / "first.jpg")
    with pytest.raises(DatasetError, match="no image named by its number"):
        VisualGenomeDataset(tmp_path / "others", file)


def test_cut_short(tmp_path: Path) -> None:
    images, file = written(tmp_path, [entry(1, thing())])
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(DatasetError, match=r"objects\.json: not valid JSON at byte"):
        VisualGenomeDataset(images, file)


@given(st.binary(max_size=100))
@settings(max_examples=50, deadline=None)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    images, file = written(tmp_path_factory.getbasetemp(), [])
    file.write_bytes(data)
    with pytest.raises(LaviseError):
        VisualGenomeDataset(images, file)
