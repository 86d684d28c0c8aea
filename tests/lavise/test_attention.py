import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise.attention import area_weights, attention_rows, pool_under_mask
from tests.oracle import cells_of, matched_projection

seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 5)


@settings(deadline=None)
@given(seed=seeds, C=sides, H=sides, W=sides)
def test_rows_give_the_matched_projection(seed: int, C: int, H: int, W: int) -> None:
    maps = np.random.default_rng(seed).normal(size=(C, H, W)).astype(np.float32)
    cells = maps.reshape(C, -1)

    rows = attention_rows(cells)

    for f in range(C):
        expected = matched_projection(cells_of(maps), f, 0.0)
        if expected is None:
            assert not rows[f].any()
        else:
            assert rows[f].sum() == pytest.approx(1, abs=1e-5)
            np.testing.assert_allclose(rows[f] @ cells.T, expected, rtol=1e-4, atol=1e-5)


def test_rows_of_any_leading_shape() -> None:
    maps = np.random.default_rng(0).normal(size=(2, 3, 7))
    np.testing.assert_array_equal(attention_rows(maps)[1, 2], attention_rows(maps[1, 2]))


@settings(deadline=None)
@given(seed=seeds, S=st.integers(5, 16), H=sides, W=sides)
def test_area_is_the_share_of_pixels(seed: int, S: int, H: int, W: int) -> None:
    mask = np.random.default_rng(seed).random((S, S)) < 0.3
    rows = np.linspace(0, S, H + 1).round().astype(int)
    columns = np.linspace(0, S, W + 1).round().astype(int)

    weights = area_weights(mask, H, W)

    for i in range(H):
        for j in range(W):
            cell = mask[rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
            assert weights[i, j] == pytest.approx(cell.mean())


@settings(deadline=None)
@given(seed=seeds, C=sides, side=sides)
def test_pool_is_the_mean_under_the_mask(seed: int, C: int, side: int) -> None:
    """Where cells are whole numbers of pixels, that is the mean over the mask's pixels."""
    rng = np.random.default_rng(seed)
    feature_map = rng.normal(size=(C, side, side))
    mask = rng.random((4 * side, 4 * side)) < 0.2

    pooled = pool_under_mask(feature_map, mask)

    enlarged = feature_map.repeat(4, axis=1).repeat(4, axis=2)
    if not mask.any():
        assert pooled is None
        return
    assert pooled is not None
    np.testing.assert_allclose(pooled, enlarged[:, mask].mean(axis=1), rtol=1e-5, atol=1e-6)


def test_one_pixel_is_enough_for_a_feature() -> None:
    mask = np.zeros((224, 224), dtype=bool)
    mask[223, 0] = True
    feature_map = np.arange(2 * 49, dtype=np.float32).reshape(2, 7, 7)
    pooled = pool_under_mask(feature_map, mask)
    assert pooled is not None
    np.testing.assert_allclose(pooled, feature_map[:, 6, 0])
