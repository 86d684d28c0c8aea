from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lavise.errors import DatasetError, ImageError, LaviseError
from lavise.teach.broden import BrodenDataset
from lavise.teach.datasets import open_datasets
from tests.coco_files import box_mask

SIZE = 40
LABELS = """\
number,name,category,frequency,coverage,syns
0,-,,0,0,
1,red-c,color(289),289,9.1,
2,car,object(40),40,4.2,auto;automobile
300,wheel,part(30),30,1.1,
4,water,material(10);object(12),22,2.0,
5,street-s,scene(7),7,7.0,
6,striped,texture(5),5,5.0,
7,night table,object(3),3,0.1,"bedside table, night stand"
8,t-shirt-s,object(3),3,0.1,
"""
HEAD = "image,split,ih,iw,sh,sw,color,object,part,material,scene,texture\n"


def write_labels(file: Path, labels: dict[int, np.ndarray]) -> None:
    """Numbers as red + 256·green, at half the image's size."""
    plane = np.zeros((20, 30, 3), dtype=np.uint8)
    for number, mask in labels.items():
        plane[mask[::2, ::2]] = (number % 256, number // 256, 0)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(plane).save(file)


@pytest.fixture
def broden(tmp_path: Path) -> Path:
    folder = tmp_path / "broden1_224"
    place = folder / "images" / "ade20k"
    body, wheel, spot = box_mask(14, 10, 20, 16), box_mask(20, 20, 6, 6), box_mask(30, 10, 8, 4)
    write_labels(place / "a_color.png", {1: body})
    write_labels(place / "a_object.png", {2: body, 4: box_mask(14, 30, 8, 8)})
    write_labels(place / "a_part_1.png", {300: wheel})
    write_labels(place / "a_part_2.png", {300: spot, 9: box_mask(40, 0, 4, 4)})
    write_labels(place / "a_material.png", {4: box_mask(40, 30, 6, 6)})
    for name in ("a", "b"):
        Image.new("RGB", (60, 40), (90, 90, 90)).save(place / f"{name}.jpg")
    (folder / "label.csv").write_text(LABELS)
    (folder / "c_object.csv").write_text("code,number,name,frequency,coverage\n1,2,car,40,4.2\n")
    (folder / "index.csv").write_text(
        HEAD + "ade20k/a.jpg,train,40,60,20,30,ade20k/a_color.png,ade20k/a_object.png,"
        "ade20k/a_part_1.png;ade20k/a_part_2.png,ade20k/a_material.png,5,\n"
        "ade20k/b.jpg,val,40,60,20,30,,,,,,6;5\n"
    )
    return folder


def test_several_concepts_a_pixel(broden: Path) -> None:
    [dataset] = open_datasets([f"broden:{broden}"], seed=0).annotated
    assert dataset.spec == f"broden:{broden}"
    assert dataset.notes == ()
    assert len(dataset) == 2
    assert dataset.categories == (
        *("red", "car", "wheel", "water", "street", "striped", "night table"),
        "t-shirt-s",  # an object: the mark is a scene's
    )
    found = {r.category: r.mask for r in dataset.fetch(0, SIZE).regions}
    assert set(found) == {"street", "red", "car", "wheel", "water"}
    body = box_mask(14, 10, 20, 16)[:, 10:50]
    assert found["street"].all()  # a scene is the whole image
    np.testing.assert_array_equal(found["red"], body)
    np.testing.assert_array_equal(found["car"], body)
    # One name in two files of a kind, and in two kinds, is one region.
    np.testing.assert_array_equal(
        found["wheel"], (box_mask(20, 20, 6, 6) | box_mask(30, 10, 8, 4))[:, 10:50]
    )
    np.testing.assert_array_equal(
        found["water"], (box_mask(14, 30, 8, 8) | box_mask(40, 30, 6, 6))[:, 10:50]
    )
    second = dataset.fetch(1, SIZE).regions
    assert [r.category for r in second] == ["striped", "street"]
    assert all(r.mask.all() for r in second)


def test_what_index_names_and_is_not_there(broden: Path) -> None:
    (broden.parent / "secret.jpg").write_bytes((broden / "images/ade20k/b.jpg").read_bytes())
    (broden / "index.csv").write_text(
        HEAD + "../../secret.jpg,train,40,60,20,30,,,,,5,\n"
        "ade20k/a.jpg,train,40,60,20,30,../../secret.png,ade20k/gone.png,,,5,77;0\n"
    )
    dataset = BrodenDataset(broden)
    image, label_image, number = dataset.notes
    assert "left out: images that are not in" in image
    assert "'../../secret.jpg' in line 2 of index.csv" in image
    assert "left out: label images that are not in" in label_image
    assert "left out: labels whose number has no name in label.csv (1; the first: 77" in number
    assert [r.category for r in dataset.fetch(0, SIZE).regions] == ["street"]


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("label.csv", None, r"label\.csv: cannot be read"),
        ("label.csv", "", r"label\.csv: cannot be read"),
        ("label.csv", "number,name\n1,red\n", r"label\.csv: no column 'category'"),
        ("label.csv", "number,name,category\nx,red,color(1)\n", "line 2: number is 'x'"),
        ("label.csv", "number,name,category\n1,red\n", r"label\.csv: cannot be read as CSV"),
        ("label.csv", "number,name,category\n-1,red,color(1)\n", "number is '-1'"),
        ("index.csv", None, r"index\.csv: cannot be read"),
        ("index.csv", "file,split\na,b\n", r"index\.csv: no column 'image'"),
        ("index.csv", HEAD, "nothing that can be used"),
        ("index.csv", HEAD + "ade20k/a.jpg,train\n", r"index\.csv: cannot be read as CSV"),
        (
            "index.csv",
            HEAD + "no.jpg,t,1,1,1,1,,,,,,\n",
            "nothing that can be used; left out: .*'no.jpg'",
        ),
    ],
)
def test_files_that_are_not_brodens(broden: Path, file: str, text: str | None, says: str) -> None:
    (broden / file).unlink()
    if text is not None:
        (broden / file).write_text(text)
    with pytest.raises(DatasetError, match=says):
        BrodenDataset(broden)


def test_label_images_that_are_not_brodens(broden: Path) -> None:
    file = broden / "images" / "ade20k" / "a_object.png"
    dataset = BrodenDataset(broden)
    Image.new("P", (30, 20)).save(file)
    with pytest.raises(ImageError, match=r"a_object\.png: a label image of mode P; accepted: RGB"):
        dataset.fetch(0, SIZE)
    file.unlink()
    with pytest.raises(ImageError, match=r"a_object\.png: cannot be read"):
        dataset.fetch(0, SIZE)
    Image.new("RGB", (20, 30)).save(file.with_name("a_color.png"))
    write_labels(file, {})
    with pytest.raises(ImageError, match=r"a\.jpg: 60 x 40 .* drawn on 20 x 30"):
        dataset.fetch(0, SIZE)


@given(st.binary(max_size=120), st.sampled_from(["label.csv", "index.csv"]))
@settings(max_examples=60, deadline=None)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes, file: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4)).save(folder / "images" / "a.png")
    (folder / "label.csv").write_text(LABELS)
    (folder / "index.csv").write_text(HEAD + "a.png,train,4,6,2,3,,,,,5,\n")
    assert len(BrodenDataset(folder)) == 1
    (folder / file).write_bytes(data)
    with pytest.raises(LaviseError):
        BrodenDataset(folder)
