import itertools
import json
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hotcoco import mask as coco_mask
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from lavise.errors import DatasetError, ImageError, LaviseError
from lavise.teach.coco import CocoDataset
from lavise.teach.coco_masks import mask_of, problem_of
from lavise.teach.datasets import open_datasets
from lavise.teach.geometry import Square
from tests.coco_files import (
    HEIGHT,
    SHAPE,
    SIZE,
    WIDTH,
    annotation,
    box_mask,
    image,
    polygon_mask,
    runs_of,
    write_coco,
    write_picture,
)


def opened(folder: Path, annotations: list[dict[str, Any]], **others: Any) -> CocoDataset:
    return CocoDataset(*write_coco(folder, annotations, **others))


def cropped(mask: np.ndarray) -> np.ndarray:
    return mask[:, 10:50]


def test_boxes_by_image_and_category(tmp_path: Path) -> None:
    pictures, file = write_coco(
        tmp_path,
        [
            annotation(3, 90),
            annotation(1, 90, bbox=[20, 10, 5, 6]),
            annotation(3, 1),
            annotation(1, 1, bbox=[11, 0, 4, 4]),
        ],
    )
    [dataset] = open_datasets([f"coco:{pictures}:{file}"], seed=0).annotated
    assert dataset.spec == f"coco:{pictures}:{file}"
    assert dataset.categories == ("dog", "traffic light")  # id 90 is no index
    assert dataset.notes == ()
    assert len(dataset) == 3
    first, none, third = (dataset.fetch(i, SIZE) for i in range(3))
    assert first.pixels.shape == (SIZE, SIZE, 3)
    assert [r.category for r in first.regions] == ["traffic light", "dog"]
    np.testing.assert_array_equal(first.regions[0].mask, cropped(box_mask(20, 10, 5, 6)))
    np.testing.assert_array_equal(first.regions[1].mask, cropped(box_mask(11, 0, 4, 4)))
    assert none.regions == ()  # an image without annotations is kept
    assert [r.category for r in third.regions] == ["traffic light", "dog"]


def test_polygons_and_run_lengths_show_what_the_picture_shows(tmp_path: Path) -> None:
    """The picture is drawn by Pillow: polygons may differ from COCO's at the outline."""
    shape = polygon_mask(SHAPE) | box_mask(40, 30, 5, 4)
    runs = runs_of(shape)
    string = coco_mask.frPyObjects({"size": [HEIGHT, WIDTH], "counts": runs}, HEIGHT, WIDTH)
    pieces = [SHAPE, [40.0, 30.0, 45.0, 30.0, 45.0, 34.0, 40.0, 34.0]]
    dataset = opened(
        tmp_path,
        [
            annotation(1, segmentation=pieces),
            annotation(1, segmentation={"size": [HEIGHT, WIDTH], "counts": runs}),
            annotation(
                1, segmentation={"size": [HEIGHT, WIDTH], "counts": string["counts"].decode()}
            ),
        ],
    )
    write_picture(tmp_path / "images" / "0001.png", shape)
    for size in (SIZE, SIZE // 2, 3 * SIZE):
        found = dataset.fetch(0, size)
        white = found.pixels[..., 0] > 147
        polygon, uncompressed, compressed = (region.mask for region in found.regions)
        np.testing.assert_array_equal(uncompressed, compressed)
        for mask in (polygon, uncompressed):
            assert mask.shape == (size, size)
            assert mask.dtype == bool
            assert (mask & white).sum() / (mask | white).sum() > 0.8
        if size == SIZE:
            np.testing.assert_array_equal(uncompressed, cropped(shape))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_run_lengths_by_a_slow_oracle(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 12, 2).tolist()
    mask = rng.random((height, width)) < rng.random()
    runs = runs_of(mask)
    flat: list[int] = list(
        itertools.chain.from_iterable([i % 2] * run for i, run in enumerate(runs))
    )
    slow = np.array([[flat[x * height + y] for x in range(width)] for y in range(height)])
    np.testing.assert_array_equal(slow, mask)  # the tests' own encoder
    found = {"segmentation": {"size": [height, width], "counts": runs}}
    assert problem_of(found) == ""
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    expected = [
        [mask[int(top + i + 0.5), int(left + j + 0.5)] for j in range(side)] for i in range(side)
    ]
    np.testing.assert_array_equal(
        mask_of(found, (height, width), Square(side, width, height)), expected
    )


@given(st.lists(st.tuples(st.floats(2, 27), st.floats(2, 27)), min_size=3, max_size=9))
@settings(max_examples=100, deadline=None)
def test_polygons_by_a_slow_oracle(points: list[tuple[float, float]]) -> None:
    """Even-odd: a ray from the pixel's centre crosses the outline an odd number of times.

    COCO rounds outlines to fifths of a pixel and then to pixels, so pixels within 1.5 of the
    outline are not compared.
    """

    def inside(x: float, y: float) -> bool:
        crossings = 0
        for (x1, y1), (x2, y2) in zip(points, [*points[1:], points[0]], strict=True):
            if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
                crossings += 1
        return crossings % 2 == 1

    def near(x: float, y: float) -> bool:
        for (x1, y1), (x2, y2) in zip(points, [*points[1:], points[0]], strict=True):
            dx, dy = x2 - x1, y2 - y1
            along = ((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy or 1.0)
            t = min(1.0, max(0.0, along))
            if np.hypot(x1 + t * dx - x, y1 + t * dy - y) <= 1.5:
                return True
        return False

    found = {"segmentation": [[value for point in points for value in point]]}
    assert problem_of(found) == ""
    mask = mask_of(found, (30, 30), Square(30, 30, 30))
    for i, j in itertools.product(range(30), range(30)):
        if not near(j + 0.5, i + 0.5):
            assert mask[i, j] == inside(j + 0.5, i + 0.5)


def test_masks_follow_exif(tmp_path: Path) -> None:
    """COCO's files do not look at EXIF: the annotation is drawn on the stored pixels."""
    dataset = opened(tmp_path, [annotation(1, bbox=[12, 4, 20, 8])])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    stored[box_mask(12, 4, 20, 8)] = 255
    Image.fromarray(stored).save(tmp_path / "images" / "0001.png", exif=exif)
    found = dataset.fetch(0, SIZE)
    np.testing.assert_array_equal(found.regions[0].mask, found.pixels[..., 0] > 127)
    np.testing.assert_array_equal(
        found.regions[0].mask, np.rot90(cropped(box_mask(12, 4, 20, 8)), -1)
    )


def test_crowds_are_left_out_and_the_rest_stays(tmp_path: Path) -> None:
    crowd = {"size": [HEIGHT, WIDTH], "counts": runs_of(box_mask(10, 0, 40, 40))}
    dataset = opened(
        tmp_path, [annotation(1, iscrowd=1, segmentation=crowd), annotation(1, bbox=[20, 5, 9, 9])]
    )
    [region] = dataset.fetch(0, SIZE).regions
    np.testing.assert_array_equal(region.mask, cropped(box_mask(20, 5, 9, 9)))
    assert "left out: crowds, which are no single objects (1;" in dataset.notes[0]
    assert "annotations[0]" in dataset.notes[0]


def test_names_are_tidied_and_merged(tmp_path: Path) -> None:
    dataset = opened(
        tmp_path,
        [annotation(1, 7), annotation(1, 5), annotation(2, 4), annotation(2, 9)],
        categories={9: " ", 7: "baseball_bat", 5: "hot\n dog", 4: "baseball  bat", 1: "unused"},
    )
    assert dataset.categories == ("baseball bat", "hot dog")
    assert [r.category for r in dataset.fetch(0, SIZE).regions] == ["baseball bat", "hot dog"]
    assert [r.category for r in dataset.fetch(1, SIZE).regions] == ["baseball bat"]
    [note] = dataset.notes
    assert "annotations of a category id without a name" in note


def test_an_object_that_the_crop_cuts_off_is_no_region(tmp_path: Path) -> None:
    dataset = opened(tmp_path, [annotation(1, bbox=[0, 0, 9, 40]), annotation(1)])
    assert len(dataset.fetch(0, SIZE).regions) == 1


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"bbox": [1, 2, float("nan"), 3]}, "boxes that are not finite"),
        ({"bbox": [1, 2, 1e999, 3]}, "boxes that are not finite"),
        ({"bbox": [1, 2, -5, 3]}, "boxes without an area"),
        ({"bbox": [1, 2, 0, 3]}, "boxes without an area"),
        ({"bbox": [1, 2, 3]}, "boxes that are not four numbers"),
        ({"bbox": ["a", 2, 3, 4]}, "boxes that are not four numbers"),
        ({"bbox": None}, "boxes that are not four numbers"),
        ({"image_id": 77}, "annotations of an image id that is not listed"),
        ({"category_id": 77}, "annotations of a category id without a name"),
        ({"segmentation": [[1, 2, 3, 4]]}, "polygons of fewer than three points"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "polygons of fewer than three points"),
        ({"segmentation": [[1, 2, 3, 4, 5, "6"]]}, "polygons that are not lists of numbers"),
        ({"segmentation": [[1, 2, 3, 4, 5, None]]}, "polygons that are not lists of numbers"),
        ({"segmentation": [7]}, "polygons that are not lists of numbers"),
        ({"segmentation": [[1, 2, 3, 4, 5, float("nan")]]}, "polygons that are not finite"),
        ({"segmentation": [[0, 0, 1e9, 1e9, 0, 5]]}, "polygons of more than 1,000,000 pixels"),
        ({"segmentation": "polygon"}, "neither polygons nor run lengths"),
        ({"segmentation": {"counts": [1]}}, "run lengths that are damaged"),
        ({"segmentation": {"size": [HEIGHT, WIDTH]}}, "run lengths that are damaged"),
        (
            {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH, 1]}},
            "run lengths that are damaged",
        ),
        (
            {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [-1, 5]}},
            "run lengths that are damaged",
        ),
        (
            {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "oooooooo"}},
            "run lengths that are damaged",
        ),
        ({"segmentation": {"size": [-1, WIDTH], "counts": [1]}}, "run lengths of no size"),
        ({"segmentation": {"size": [2.0, 3], "counts": [1]}}, "run lengths of no size"),
        (
            {"segmentation": {"size": [WIDTH, HEIGHT], "counts": [WIDTH * HEIGHT]}},
            "run lengths of another size than the image's",
        ),
    ],
)
def test_values_that_cannot_be_used_leave_one_annotation_out(
    tmp_path: Path, broken: dict[str, Any], reason: str
) -> None:
    dataset = opened(tmp_path, [annotation(1) | broken, annotation(1, 90)])
    [note] = dataset.notes
    assert "left out: " in note
    assert reason in note
    assert "(1; the first: " in note
    assert [r.category for r in dataset.fetch(0, SIZE).regions] == ["traffic light"]


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "missing.png", "..\\secret.png", "", "\0"]
)
def test_only_files_of_the_folder_are_read(tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / "secret.png")
    dataset = opened(
        tmp_path,
        [annotation(1), annotation(2)],
        images=[image(1, file_name=name), image(2)],
    )
    assert len(dataset) == 1
    left_out, of_them = dataset.notes
    assert "left out: images that are not in" in left_out
    assert repr(name) in left_out
    assert "left out: annotations of images that were left out (1;" in of_them


@pytest.mark.parametrize("size", [(0, 40), (-60, 40), (60, -40), (10**6, 10**6)])
def test_images_of_an_impossible_size_are_left_out(tmp_path: Path, size: tuple[int, int]) -> None:
    dataset = opened(
        tmp_path,
        [annotation(1), annotation(2)],
        images=[image(1, width=size[0], height=size[1]), image(2)],
    )
    assert len(dataset) == 1
    assert "images of an impossible size" in dataset.notes[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": [image(1), {"id": "2"}]}, r"images\[1\] .*id is '2'; accepted: a whole number"),
        ({"images": [image(1, id=True)]}, r"images\[0\] .*id is True"),
        ({"images": [image(1, height=4.5)]}, r"height is 4\.5"),
        ({"images": [image(1, file_name=None)]}, r"file_name is None; accepted: a text"),
        ({"images": [image(1), image(1)]}, r"images\[1\] .*id is 1 once more"),
        ({"images": []}, "lists no images"),
        ({"images": {}}, "not valid JSON at byte .*'images' is no array"),
        ({"images": [1]}, r"images\[0\] is no object"),
        ({"categories": []}, "lists no categories"),
        ({"categories": [{"id": 1, "name": 5}]}, r"categories\[0\] .*name is 5; accepted: a text"),
        ({"categories": [{"name": "dog"}]}, r"categories\[0\] .*id is None"),
        ({"annotations": [annotation(1, image_id="1")]}, r"annotations\[0\] .*image_id is '1'"),
        ({"annotations": [annotation(1, category_id=1.0)]}, r"category_id is 1\.0"),
        ({"annotations": [annotation(1, image_id=10**30)]}, r"image_id is 1e\+30"),
        ({"annotations": []}, "nothing that can be used"),
        (
            {"annotations": [annotation(1, 77)]},
            "nothing that can be used; left out: .*without a name",
        ),
        ({"images": [image(9)]}, "nothing that can be used; left out: .*that are not in"),
    ],
)
def test_files_that_are_not_cocos(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    pictures, file = write_coco(tmp_path, [annotation(1)])
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(DatasetError, match=says):
        CocoDataset(pictures, file)


def test_cut_short(tmp_path: Path) -> None:
    pictures, file = write_coco(tmp_path, [annotation(1)])
    data = file.read_bytes()
    for end in (0, 1, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:end])
        with pytest.raises(DatasetError, match=r"instances\.json"):
            CocoDataset(pictures, file)


def test_an_array_is_no_coco_file(tmp_path: Path) -> None:
    pictures, file = write_coco(tmp_path, [])
    file.write_text(json.dumps([annotation(1)]))
    with pytest.raises(DatasetError, match="lists no images"):
        CocoDataset(pictures, file)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    pictures, file = write_coco(tmp_path, [annotation(1)])
    with pytest.raises(DatasetError, match=r"nowhere\.json: cannot be read"):
        CocoDataset(pictures, tmp_path / "nowhere.json")
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        CocoDataset(tmp_path / "nowhere", file)


def test_what_changes_while_it_is_used(tmp_path: Path) -> None:
    dataset = opened(tmp_path, [annotation(1)])
    (tmp_path / "images" / "0002.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"0002\.png"):
        dataset.fetch(1, SIZE)
    (tmp_path / "images" / "0002.png").unlink()
    with pytest.raises(ImageError, match=r"0002\.png: cannot be read"):
        dataset.fetch(1, SIZE)
    Image.new("RGB", (50, 50)).save(tmp_path / "images" / "0003.png")
    with pytest.raises(ImageError, match=r"0003\.png: 50 x 50 pixels, but .* drawn on 60 x 40"):
        dataset.fetch(2, SIZE)
    (tmp_path / "instances.json").write_text("{}")
    with pytest.raises(DatasetError, match="changed since it was opened"):
        dataset.fetch(0, SIZE)


def test_threads_and_other_processes_may_fetch(tmp_path: Path) -> None:
    dataset = opened(tmp_path, [annotation(1), annotation(2, 90), annotation(3)])
    expected = [dataset.fetch(i, SIZE).regions[0].category for i in range(3)]
    again = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - our own, as a worker gets it
    found: dict[int, str] = {}

    def fetch(position: int) -> None:
        found[position] = again.fetch(position, SIZE).regions[0].category

    threads = [threading.Thread(target=fetch, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(3)] == expected == ["dog", "traffic light", "dog"]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["size", "counts"]), inner)
    ),
    max_leaves=8,
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"image_id": st.integers(0, 4), "category_id": st.sampled_from([1, 90, 5])},
            optional={"bbox": JUNK, "segmentation": JUNK, "iscrowd": JUNK},
        ),
        max_size=4,
    )
)
@settings(max_examples=100, deadline=None)
def test_whatever_stands_in_annotations(
    tmp_path_factory: pytest.TempPathFactory, annotations: list[dict[str, Any]]
) -> None:
    dataset = opened(tmp_path_factory.getbasetemp(), [*annotations, annotation(1)])
    for position in range(len(dataset)):
        for region in dataset.fetch(position, 8).regions:
            assert region.mask.shape == (8, 8)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(max_examples=100, deadline=None)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    pictures, file = write_coco(tmp_path_factory.getbasetemp(), [])
    file.write_bytes(data)
    with pytest.raises(LaviseError):
        CocoDataset(pictures, file)


def test_memory_does_not_hold_annotations(tmp_path: Path) -> None:
    """What stays in memory for an annotation: 16 bytes in four arrays."""
    polygon = [SHAPE * 20]
    dataset = opened(tmp_path, [annotation(1, segmentation=polygon)] * 2000)
    index = dataset._index
    held = index.start.nbytes + index.length.nbytes + index.category.nbytes
    assert held == 16 * 2000
    assert len(pickle.dumps(dataset)) < 40_000
