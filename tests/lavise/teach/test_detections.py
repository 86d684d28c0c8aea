import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lavise.errors import DatasetError, SpecError
from lavise.teach.datasets import ACCEPTED, open_datasets
from lavise.teach.detections import open_detections
from tests.coco_files import SIZE, annotation, box_mask, write_coco


def detection(key: int, score: Any, **others: Any) -> dict[str, Any]:
    entry = annotation(key, **others) | {"score": score}
    del entry["iscrowd"]
    return entry


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Detections as a bare array; images; and an instances.json that lists them."""
    pictures, instances = write_coco(tmp_path, [annotation(2), annotation(3)])
    results = tmp_path / "results.json"
    polygon = [[20, 10, 30, 10, 30, 25, 20, 25]]
    entries = [
        detection(1, 0.9, bbox=[12.5, 5.5, 10, 8]),
        detection(1, 0.5, category=90, segmentation=polygon),
        detection(2, 0.49),
        detection(2, float("nan")),
        detection(77, 0.8),
        detection(3, 1, bbox=[0, 0, float("nan"), 4]),
    ]
    results.write_text(json.dumps(entries))
    return results, pictures, instances


def test_a_bare_array_and_what_lists_its_images(sources: tuple[Path, Path, Path]) -> None:
    spec = "detections:" + ":".join(map(str, sources))
    [dataset] = open_datasets([spec], seed=0).annotated
    assert dataset.spec == spec
    assert dataset.categories == ("dog", "traffic light")
    assert len(dataset) == 3
    box, polygon = dataset.fetch(0, SIZE).regions
    # Of columns 12.5 to 22.5 the pixels whose centres lie inside: 12 to 21.
    np.testing.assert_array_equal(box.mask, box_mask(12, 5, 10, 8)[:, 10:50])
    np.testing.assert_array_equal(polygon.mask, box_mask(20, 10, 10, 15)[:, 10:50])
    assert dataset.fetch(1, SIZE).regions == ()  # its own annotations do not count
    low, not_finite, unlisted = dataset.notes
    assert "left out: detections with a score under 0.5 (2; the first: element 2" in low
    assert "left out: boxes that are not finite (1; the first: element 5" in not_finite
    assert "left out: annotations of an image id that is not listed (1;" in unlisted


@pytest.mark.parametrize("with_images", [True, False])
def test_an_object_with_images_and_categories(tmp_path: Path, *, with_images: bool) -> None:
    pictures, file = write_coco(tmp_path, [detection(1, 0.7), detection(2, 0.3)])
    if not with_images:
        file = file.rename(pictures / "found.json")
    spec = f"detections:{file}" + (f":{pictures}" if with_images else "")
    dataset = open_detections(spec)
    assert [len(dataset.fetch(i, SIZE).regions) for i in range(3)] == [1, 0, 0]
    assert [len(open_detections(spec, least_score=0.1).fetch(i, 8).regions) for i in range(2)] == [
        1,
        1,
    ]


def test_a_bare_array_alone_says_what_is_missing(sources: tuple[Path, Path, Path]) -> None:
    results, pictures, _ = sources
    with pytest.raises(DatasetError, match=r"detections:RESULTS.json:IMAGES:INSTANCES.json"):
        open_detections(f"detections:{results}:{pictures}")


def test_a_bare_array_lists_nothing(sources: tuple[Path, Path, Path]) -> None:
    results, pictures, instances = sources
    with pytest.raises(DatasetError, match=r"results\.json: is an array"):
        open_detections(f"detections:{instances}:{pictures}:{results}")


@pytest.mark.parametrize("score", [None, "0.9", [1], {}])
def test_scores_that_are_no_numbers(tmp_path: Path, score: object) -> None:
    pictures, file = write_coco(tmp_path, [detection(1, score)])
    with pytest.raises(DatasetError, match=r"annotations\[0\] .*score is .*accepted: a number"):
        open_detections(f"detections:{file}:{pictures}")


def test_nothing_over_the_threshold(tmp_path: Path) -> None:
    pictures, file = write_coco(tmp_path, [detection(1, 0.2)])
    with pytest.raises(
        DatasetError, match=r"nothing that can be used; left out: .*a score under 0.5"
    ):
        open_detections(f"detections:{file}:{pictures}")


@pytest.mark.parametrize("spec", ["detections", "detections:", "detections:a:b:c:d"])
def test_specs(spec: str) -> None:
    with pytest.raises(SpecError, match=r"accepted: .*detections:FILE"):
        open_datasets([spec], seed=0)
    assert "detections:FILE.json" in ACCEPTED
