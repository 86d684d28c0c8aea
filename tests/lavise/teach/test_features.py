from typing import Any

import numpy as np
import pytest

from lavise.attention import pool_under_mask
from lavise.errors import SpecError
from lavise.teach.datasets import AnnotatedImage, Region
from lavise.teach.features import BATCH, LayerFeatures, extract_features

SIDE = 4


class FakeDataset:
    """Images of one number each, with one to three regions of one row each."""

    spec = "fake"
    notes: tuple[str, ...] = ()

    def __init__(self, n: int, categories: tuple[str, ...], *, annotated: bool = True) -> None:
        self.n, self.categories, self.annotated = n, categories, annotated

    def __len__(self) -> int:
        return self.n

    def fetch(self, position: int, size: int) -> AnnotatedImage:
        assert size == SIDE
        regions = []
        for j in range((position % 3 + 1) if self.annotated else 0):
            mask = np.zeros((SIDE, SIDE), dtype=bool)
            mask[j] = position != 5  # the masks of one image are empty
            regions.append(Region(self.categories[(position + j) % len(self.categories)], mask))
        return AnnotatedImage(
            np.full((SIDE, SIDE, 3), position % 200, dtype=np.uint8), tuple(regions)
        )


class Output:
    def __init__(self, name: str) -> None:
        self.name = name


class Session:
    """A CNN with two layers, whose maps are simple functions of the image's number."""

    def __init__(self, *, has_head: bool = True, bad: float = 0.0) -> None:
        self.bad = bad
        heads = ["logits"] if has_head else []
        self.names = [*heads, "map_0", "peak_0", "mean_0", "map_1", "peak_1", "mean_1"]

    def get_outputs(self) -> list[Output]:
        return [Output(name) for name in self.names]

    def run(self, _names: None, fed: dict[str, np.ndarray]) -> list[np.ndarray]:
        number = fed["images"][:, 0, 0, 0].astype(np.float32)
        maps = {
            "map_0": map_of(number, 3, 2) + self.bad,
            "map_1": map_of(number, 2, SIDE),
        }
        found = {"logits": number[:, None] * np.ones(5, dtype=np.float32)}
        for i in (0, 1):
            found[f"map_{i}"] = maps[f"map_{i}"]
            found[f"peak_{i}"] = maps[f"map_{i}"].max((2, 3))
            found[f"mean_{i}"] = maps[f"map_{i}"].mean((2, 3))
        return [found[name] for name in self.names]


def map_of(number: np.ndarray, channels: int, side: int) -> np.ndarray:
    """Values that differ by image, channel and row."""
    rows = np.arange(side, dtype=np.float32)[:, None] + np.zeros(side, dtype=np.float32)
    scale = np.arange(1, channels + 1, dtype=np.float32)[:, None, None]
    return np.asarray(number[:, None, None, None] + (scale * rows)[None])


def test_every_region_has_its_own_feature() -> None:
    """Over two datasets, several batches, several regions an image, and one with none."""
    first = FakeDataset(BATCH + 3, ("a", "b", "c"))
    second = FakeDataset(4, ("c", "d"))
    session: Any = Session()

    found = extract_features(session, [first, second], size=SIDE)

    assert found.categories == ("a", "b", "c", "d")
    expected_regions: list[list[np.ndarray]] = [[], []]
    expected_category, expected_image = [], []
    images = [first.fetch(i, SIDE) for i in range(len(first))]
    images += [second.fetch(i, SIDE) for i in range(len(second))]
    for i, image in enumerate(images):
        outputs = session.run(None, {"images": image.pixels[None]})
        for region in image.regions:
            pooled = [pool_under_mask(outputs[at][0], region.mask) for at in (1, 4)]
            if pooled[0] is None:
                continue
            for layer in (0, 1):
                feature = pooled[layer]
                assert feature is not None
                expected_regions[layer].append(feature)
            expected_category.append(found.categories.index(region.category))
            expected_image.append(i)
    assert found.category.tolist() == expected_category
    assert found.image.tolist() == expected_image
    for gathered, features in zip(found.layers, expected_regions, strict=True):
        np.testing.assert_allclose(gathered.regions[:], np.stack(features), rtol=1e-5)
        assert gathered.images.shape == (len(images), gathered.regions.shape[1])
        assert gathered.lowest == min(gathered.regions[:].min(), gathered.images[:].min())
    assert found.logits.shape == (len(images), 5)
    np.testing.assert_array_equal(found.layers[0].peak, [BATCH + 3, BATCH + 4, BATCH + 5])


def test_unlabelled_images_without_a_head() -> None:
    session: Any = Session(has_head=False)
    found = extract_features(session, [FakeDataset(5, (), annotated=False)], size=SIDE)
    assert found.category.size == found.image.size == 0
    assert found.logits.shape == (5, 0)
    assert [layer.regions.shape for layer in found.layers] == [(0, 3), (0, 2)]
    assert [layer.images.shape for layer in found.layers] == [(5, 3), (5, 2)]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(bad: float) -> None:
    session: Any = Session(bad=bad)
    with pytest.raises(SpecError, match="not finite") as caught:
        extract_features(session, [FakeDataset(3, ("a",))], size=SIDE)
    assert caught.value.field == "cnn"


@pytest.mark.parametrize(
    ("peak", "ceiling"),
    [
        ([6.0] * 3 + [1.0] * 7, 6.0),
        ([6.0] * 2 + [1.0] * 18, 6.0),
        ([6.0] * 2 + [1.0] * 19, None),
        ([6.0, 5.0, 4.0], None),  # a small layer has some largest filter: that is no ceiling
        ([6.0], None),
        ([0.0] * 10, None),
        ([-1.0, -1.0], None),
        ([6.0, 6.0000001, 3.0], 6.0),
    ],
)
def test_ceiling(peak: list[float], ceiling: float | None) -> None:
    none = np.zeros((0, len(peak)), dtype=np.float32)
    layer = LayerFeatures(none, none, np.array(peak, dtype=np.float32), 0.0)
    assert layer.ceiling() == pytest.approx(ceiling)
