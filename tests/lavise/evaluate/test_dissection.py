import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise.evaluate.dissection import Dissection, best_categories
from lavise.evaluate.overlap import enlarge, overlap
from tests.lavise.evaluate import oracles


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 5))
def test_sums_over_images_are_network_dissections(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    C, K, side = 3, 4, 8
    maps = rng.normal(size=(n, C, 2, 3)).astype(np.float32)
    cut = rng.normal(size=C).astype(np.float32)
    half = rng.integers(0, 2, n)
    masks = rng.random((n, K, side, side)) < 0.3
    present = [np.flatnonzero(rng.random(K) < 0.6) for _ in range(n)]
    sums = Dissection(C, K)
    for i in range(n):
        sums.update(int(half[i]), overlap(maps[i], cut, masks[i][present[i]]), present[i])
    for halves in ((0,), (1,), (0, 1)):
        some = [i for i in range(n) if half[i] in halves]
        for f in range(C):
            for k in range(K):
                active = [enlarge(maps[i, [f]], side)[0] > cut[f] for i in some]
                annotated = [masks[i, k] & (k in present[i]) for i in some]
                expected = oracles.dissected(active, annotated)
                assert sums.iou(*halves)[f, k] == pytest.approx(expected)


def test_best_categories_stop_where_nothing_overlaps() -> None:
    iou = np.array([[0.1, 0.3, 0.0], [0.0, 0.0, 0.0]])
    assert best_categories(iou, 2).tolist() == [[1, 0], [-1, -1]]
    assert best_categories(iou, 5).tolist() == [[1, 0, -1, -1, -1], [-1] * 5]
