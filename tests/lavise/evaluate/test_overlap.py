import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lavise.evaluate.overlap import cut_at, enlarge, overlap
from tests.lavise.evaluate import oracles


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    side=st.integers(6, 19),
)
def test_enlarging_is_bilinear(seed: int, height: int, width: int, side: int) -> None:
    maps = np.random.default_rng(seed).normal(size=(3, height, width)).astype(np.float32)
    found = enlarge(maps, side)
    for one, large in zip(maps, found, strict=True):
        np.testing.assert_allclose(large, oracles.enlarged(one, side), atol=1e-5)
        pillow = Image.fromarray(one).resize((side, side), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(large, np.asarray(pillow), atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    C=st.sampled_from([1, 5, 140]),
    n_masks=st.integers(0, 4),
    cells=st.integers(1, 5),
)
def test_overlap_counts_pixels(seed: int, C: int, n_masks: int, cells: int) -> None:
    rng = np.random.default_rng(seed)
    side = 11
    maps = rng.normal(size=(C, cells, cells)).astype(np.float32)
    maps[0] = 0.0
    cut = rng.normal(size=C).astype(np.float32)
    masks = rng.random((n_masks, side, side)) < 0.4
    found = overlap(maps, cut, masks)
    assert found.filters.tolist() == [f for f in range(C) if maps[f].max() > cut[f]]
    for row, f in list(enumerate(found.filters))[:6]:
        large = enlarge(maps[[f]], side)[0]
        active = large > cut[f]
        assert found.area[row] == active.sum()
        for m in range(n_masks):
            assert found.iou()[row, m] == pytest.approx(oracles.iou(active, masks[m]))


def test_some_of_the_masks() -> None:
    masks = np.stack([np.eye(4, dtype=bool), np.ones((4, 4), dtype=bool)])
    found = overlap(np.ones((1, 2, 2), dtype=np.float32), np.zeros(1), masks)
    assert found.iou().tolist() == [[0.25, 1.0]]
    assert found.of(np.array([1])).iou().tolist() == [[1.0]]


def test_a_saturated_map_is_active_where_it_saturates() -> None:
    maps = np.zeros((1, 7, 7), dtype=np.float32)
    maps[0, 2:5, 2:5] = 6.0
    threshold = np.array([6.0], dtype=np.float32)
    masks = np.zeros((1, 224, 224), dtype=bool)
    assert overlap(maps, cut_at(threshold, None), masks).filters.size == 0
    found = overlap(maps, cut_at(threshold, 6.0), masks)
    # Between the outer centres of the saturated cells: two cells of 32 pixels, interpolated.
    assert found.area.tolist() == [64.0 * 64.0]


def test_a_map_that_is_nowhere_positive_is_inactive() -> None:
    found = overlap(-np.ones((2, 3, 3), np.float32), np.zeros(2), np.ones((1, 6, 6), dtype=bool))
    assert found.filters.size == 0
    assert found.iou().shape == (0, 1)
